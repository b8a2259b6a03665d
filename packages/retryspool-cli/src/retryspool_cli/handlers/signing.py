"""Signed webhooks, as the Standard Webhooks specification has them (https://www.standardwebhooks.com).

The receiver computes HMAC-SHA256 over `ID.TIMESTAMP.BODY` with the secret that both know, compares it with each of the
signatures, and refuses a timestamp that is too old: so nobody else can have sent it, or can send it again much later.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["SECRET_VARIABLE", "Signer", "read_secrets"]

SECRET_VARIABLE = "RETRYSPOOL_WEBHOOK_SECRET"  # noqa: S105 -- its name, not a secret
"""Environment variable: the secrets, separated by spaces. On a command line anybody could read them."""

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64
"""Of a key, in bytes, by the specification."""
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with each of its keys, so that a receiver may know the old or the new one while they are changed.

    :param secrets: as text, `whsec_` and base64
    :raises ValueError: one isn't a secret; the error doesn't show it
    """

    secrets: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.secrets:
            raise ValueError("there's no secret to sign with")
        self._keys()

    def __repr__(self) -> str:
        return f"Signer({len(self.secrets)} secrets)"

    def _keys(self) -> list[bytes]:
        return [_key(number, secret) for number, secret in enumerate(self.secrets, 1)]

    def headers(self, message_id: str, payload: BinaryIO, *, now: float | None = None) -> Mapping[str, str]:
        """Return the headers of a request; the payload is read from its start, and stands there again.

        :param payload: seekable
        :param now: the time of the request, in seconds since 1970; the clock's if not given
        """
        timestamp = str(int(time.time() if now is None else now))
        begun = f"{message_id}.{timestamp}.".encode()
        digests = [hmac.new(key, begun, "sha256") for key in self._keys()]
        payload.seek(0)
        while chunk := payload.read(_CHUNK_BYTES):
            for digest in digests:
                digest.update(chunk)
        payload.seek(0)
        signatures = " ".join(f"v1,{base64.b64encode(digest.digest()).decode()}" for digest in digests)
        return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signatures}


def _key(number: int, secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True) if secret.startswith(_PREFIX) else b""
    except binascii.Error:
        key = b""
    if not _SHORTEST <= len(key) <= _LONGEST:
        msg = (
            f"secret {number} isn't {_PREFIX} and the base64 of {_SHORTEST} to {_LONGEST} bytes;"
            f' make one: echo "{_PREFIX}$(openssl rand -base64 32)"'
        )
        raise ValueError(msg)
    return key


def read_secrets(file: Path | None, environ: Mapping[str, str]) -> Signer | None:
    """Return what to sign with: a file's secrets, else those of the environment; None without any.

    :raises ValueError: the file has none, or one isn't a secret
    :raises OSError: the file can't be read
    """
    if file is not None:
        return Signer(tuple(_words(file.read_text(encoding="utf-8"))))
    secrets = tuple(environ.get(SECRET_VARIABLE, "").split())
    return Signer(secrets) if secrets else None


def _words(text: str) -> list[str]:
    return re.sub(r"(?m)#.*$", "", text).split()
