"""Requests to an S3 server, signed as AWS's Signature Version 4 asks for: enough to make a bucket.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["REGION", "Credentials", "request"]

REGION = "us-east-1"
_ANSWER_S = 3.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Credentials(access_key={self.access_key!r})"


def request(method: str, address: str, path: str, credentials: Credentials, *, body: bytes = b"") -> int:
    """Send a request, and return the status of the answer.

    :param address: host and port
    :param path: of characters that need no escaping
    :raises OSError: there's no answer
    """
    connection = http.client.HTTPConnection(address, timeout=_ANSWER_S)
    try:
        connection.request(method, path, body, _signed(method, address, path, credentials, body))
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except http.client.HTTPException as error:
        raise OSError(repr(error)) from error
    finally:
        connection.close()


def _signed(method: str, host: str, path: str, credentials: Credentials, body: bytes) -> dict[str, str]:
    now = datetime.now(UTC)
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ")}
    names = ";".join(headers)  # they are in order
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"{method}\n{path}\n\n{lines}\n{names}\n{digest}"
    scope = f"{now:%Y%m%d}/{REGION}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    signature = _hmac(key, to_sign).hex()
    credential = f"Credential={credentials.access_key}/{scope}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    return headers


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
