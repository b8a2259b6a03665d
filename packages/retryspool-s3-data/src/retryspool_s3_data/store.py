"""What the parts of a backend share: the client, one for each process, and what all requests have in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import ClientError

from retryspool.deadline import check_deadline
from retryspool.errors import BackendClosedError, BackendError
from retryspool_s3_data.client import make_client
from retryspool_s3_data.failures import Call, code_of, translating
from retryspool_s3_data.layout import key_of

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from retryspool_s3_data.factory import S3DataFactory

__all__ = ["Store"]


class Store:
    """An open bucket and prefix. Shared between threads; a process that was forked gets a client of its own."""

    def __init__(self, settings: S3DataFactory) -> None:
        self.settings = settings
        self.bucket = settings.bucket
        self.prefix = settings.prefix
        self.server = ""
        """The server's name and version, as it tells them; empty if it doesn't."""
        self._closed = False
        self._client = self._make_client()
        self._pid = os.getpid()

    @classmethod
    def open(cls, settings: S3DataFactory) -> Self:
        """Connect, and see that the bucket is there."""
        check_deadline()
        store = cls(settings)
        try:
            store._find_bucket()
        except BaseException:
            store.close()
            raise
        return store

    def _make_client(self) -> S3Client:
        with translating(self.call("opening the bucket")):
            return make_client(self.settings)

    def _find_bucket(self) -> None:
        """See that the bucket is there, by a request whose answer has a code, which one to HEAD hasn't."""
        with translating(self.call(f"opening bucket {self.bucket!r}")):
            try:
                reply = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.listing_prefix, MaxKeys=1)
            except ClientError as error:
                if code_of(error) == "AccessDenied":  # who may not list may still read and write
                    return
                if code_of(error) != "NoSuchBucket" or not self.settings.create_bucket:
                    raise
            else:
                self.server = reply["ResponseMetadata"].get("HTTPHeaders", {}).get("server", "")
                return
        with translating(self.call(f"creating bucket {self.bucket!r}", writes=True)):
            self._create_bucket()

    def _create_bucket(self) -> None:
        region = self.client.meta.region_name
        at_home = region in {"", "aws-global", "us-east-1"}
        where: Any = {} if at_home else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            self.client.create_bucket(Bucket=self.bucket, **where)
        except ClientError as error:
            if code_of(error) != "BucketAlreadyOwnedByYou":  # another process was faster
                raise

    @property
    def client(self) -> S3Client:
        """The client of this process.

        :raises BackendError: it was passed in, and this is another process than that
        """
        if self._pid != os.getpid():
            if self.settings.client is not None:
                raise BackendError(
                    f"the client of bucket {self.bucket!r} was passed in by process {self._pid}, before a fork; "
                    f"open a backend with a new one in this process, {os.getpid()}"
                )
            self._client = self._make_client()  # of several threads that come here at once, the last one's stays
            self._pid = os.getpid()
        return self._client

    @property
    def listing_prefix(self) -> str:
        """What the keys of all payloads begin with."""
        return f"{self.prefix}/" if self.prefix else ""

    def check(self) -> None:
        """Do nothing while it may be used.

        :raises BackendClosedError: it was closed
        :raises DeadlineExceededError: the time allowed is over
        """
        if self._closed:
            raise BackendClosedError("data backend")
        check_deadline()

    def call(self, what: str, *, writes: bool = False, message_id: str | None = None) -> Call:
        """Return what is asked of the server, for its errors."""
        return Call(what, self.bucket, writes, message_id)

    def at(self, message_id: str) -> dict[str, Any]:
        """Return the arguments that say where a payload lies."""
        return {"Bucket": self.bucket, "Key": key_of(self.prefix, message_id)}

    def how(self) -> dict[str, Any]:
        """Return the arguments that say how a payload is to be kept."""
        settings = self.settings
        chosen = {
            "StorageClass": settings.storage_class,
            "ServerSideEncryption": settings.sse,
            "SSEKMSKeyId": settings.kms_key,
        }
        return {name: value for name, value in chosen.items() if value is not None}

    def close(self) -> None:
        """Let go of the connections, unless the client was passed in. May be called again."""
        self._closed = True
        self.forget_connections()

    def forget_connections(self) -> None:
        """Close what connections there are, if the backend is closed: one of its readers has ended."""
        if self._closed and self.settings.client is None and self._pid == os.getpid():
            self._client.close()
