"""What the S3 servers have in common: a bucket that is there, and the URL that names it."""

from __future__ import annotations

import secrets
from abc import ABC
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

from retryspool_cli.servers.server import Server
from retryspool_cli.servers.signing import REGION, Credentials, request

__all__ = ["BUCKET", "BucketServer"]

BUCKET = "retryspool"


class BucketServer(Server, ABC):
    """An S3 server with a bucket, in which objects can be written as soon as it is ready.

    :param bucket: its name
    """

    def __init__(self, folder: Path | None = None, *, bucket: str = BUCKET, keep_until: Path | None = None) -> None:
        super().__init__(folder, keep_until=keep_until)
        self.bucket = bucket
        self._credentials = Credentials(secrets.token_hex(10).upper(), secrets.token_hex(20))

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """`s3://BUCKET?endpoint=http://127.0.0.1:PORT&…`, with the credentials."""
        settings = {
            "endpoint": self.endpoint,
            "region": REGION,
            "access_key": self._credentials.access_key,
            "secret_key": self._credentials.secret_key,
            "addressing": "path",
        }
        return f"s3://{self.bucket}?{urlencode(settings, safe=':/')}"

    def _answers(self) -> bool:
        """Make the bucket, unless it's there, and write an object: a server may answer before it can store."""
        probe = f"/{self.bucket}/.ready"
        return (
            self._ask("PUT", f"/{self.bucket}") in {HTTPStatus.OK, HTTPStatus.CONFLICT}
            and self._ask("PUT", probe, b"ready") == HTTPStatus.OK
            and self._ask("DELETE", probe) == HTTPStatus.NO_CONTENT
        )

    def _ask(self, method: str, path: str, body: bytes = b"") -> int:
        return request(method, f"{self.host}:{self.port}", path, self._credentials, body=body)
