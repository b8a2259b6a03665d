"""The settings of the data backend on S3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast
from urllib.parse import urlsplit

from retryspool.data import DataFactory
from retryspool.errors import InvalidOptionError, InvalidUrlError
from retryspool.namespaces import validate_namespace
from retryspool.urls import parse_url
from retryspool_s3_data.layout import validate_bucket, validate_prefix

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from retryspool_s3_data.backend import S3DataBackend

__all__ = ["S3DataFactory"]

_MIB = 1024 * 1024
_ADDRESSING = ("auto", "path", "virtual")
_ENCRYPTION = ("AES256", "aws:kms", "aws:kms:dsse")
_TO_BE_RESTORED = ("GLACIER", "DEEP_ARCHIVE")
_DESTROYED_AT_ONCE = 1000


@dataclass(frozen=True)
class S3DataFactory(DataFactory):
    """Payloads as objects in a bucket, under the keys that the Go system gives them.

    :raises InvalidOptionError: a setting is out of its range
    """

    name: ClassVar[str] = "s3"

    bucket: str
    _: KW_ONLY
    prefix: str = ""
    """What the keys begin with, without the slash after it; empty for nothing."""
    endpoint: str | None = None
    """The server, such as `http://localhost:9000`; None for Amazon's."""
    region: str | None = None
    """None for what boto3 finds in its configuration."""
    access_key: str | None = field(default=None, repr=False)
    """None for what boto3 finds: the environment, its configuration, the machine's role."""
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    """The third part of temporary credentials."""
    addressing: str = "auto"
    """How the bucket is named in requests: in the `path` or in the host (`virtual`); `auto` lets boto3 choose."""
    storage_class: str | None = None
    """None for the bucket's."""
    sse: str | None = None
    """Encryption by the server: `AES256`, `aws:kms` or `aws:kms:dsse`; None for the bucket's."""
    kms_key: str | None = field(default=None, repr=False)
    """Which of the key service's keys; None for the bucket's."""
    part_bytes: int = 8 * _MIB
    """What is larger is sent in parts of this size."""
    concurrency: int = 4
    """How many parts of one payload are in memory, one of them being gathered and the others on their way; and how many
    payloads of one batch are on their way at a time."""
    connect_timeout: float = 5.0
    """In seconds."""
    timeout: float = 30.0
    """How long the server may keep silent, in seconds."""
    max_attempts: int = 3
    """How often a request is sent at most, by botocore's standard mode."""
    create_bucket: bool = False
    """Create the bucket if it isn't there."""
    client: S3Client | None = field(default=None, repr=False)
    """A ready boto3 client, which is left open; its own settings hold in place of those of the connection above."""

    def __post_init__(self) -> None:
        validate_bucket(self.bucket)
        object.__setattr__(self, "prefix", validate_prefix(self.prefix))  # those that mean the same are equal
        _check_endpoint(self.endpoint)
        _check_choice("addressing", self.addressing, _ADDRESSING)
        if self.sse is not None:
            _check_choice("sse", self.sse, _ENCRYPTION)
        if self.kms_key is not None and self.sse in {None, "AES256"}:
            raise InvalidOptionError(f"kms_key is set and sse is {self.sse!r}; with a key it must be 'aws:kms'")
        if self.storage_class in _TO_BE_RESTORED:
            raise InvalidOptionError(
                f"storage_class is {self.storage_class!r}; what is stored so can't be read before it was restored: "
                "use another, such as GLACIER_IR"
            )
        if (self.access_key is None) != (self.secret_key is None):
            raise InvalidOptionError("access_key and secret_key must be given together, or none of them")
        if self.session_token is not None and self.access_key is None:
            raise InvalidOptionError("session_token is given without access_key and secret_key; it must come with them")
        _check_range("part_bytes", self.part_bytes, 5 * _MIB, 512 * _MIB)
        _check_range("concurrency", self.concurrency, 1, 64)
        _check_range("connect_timeout", self.connect_timeout, 0.001, 3600)
        _check_range("timeout", self.timeout, 0.001, 3600)
        _check_range("max_attempts", self.max_attempts, 1, 100)

    def create(self) -> S3DataBackend:
        """Open the store.

        A bucket that isn't there is an error, unless `create_bucket` is set: its name may be wrong, and how it's to be
        encrypted, versioned and paid for is its owner's choice.
        """
        from retryspool_s3_data.backend import open_backend  # noqa: PLC0415 -- boto3 is slow to import; many only list us

        return open_backend(self)

    def destroy(self) -> None:
        """Remove all payloads under the prefix and all uploads of some; the bucket stays, and what else is in it."""
        with self.create() as backend:
            ids = (info.message_id for info in backend.iter_data())
            while batch := list(islice(ids, _DESTROYED_AT_ONCE)):
                for error in backend.delete_many(batch):
                    if error is not None:
                        raise error
            for _ in backend.sweep(datetime.max.replace(tzinfo=UTC)):
                pass

    def in_namespace(self, namespace: str) -> Self:
        """Return the same settings for the prefix of this name below this one."""
        below = validate_namespace(namespace)
        return replace(self, prefix=f"{self.prefix}/{below}" if self.prefix else below)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Take the settings from `s3://bucket/prefix`, and all but `client` from what follows, as in `?region=…`."""
        parsed = parse_url(url, _SETTINGS)
        shown = f"s3://{parsed.host}{parsed.path}"  # an endpoint may hold a password too
        if parsed.user or parsed.password or parsed.port is not None:
            raise InvalidUrlError(
                f"{shown!r} is s3://bucket/prefix; what else there is to say are settings: "
                "?endpoint=http://host:port&access_key=…&secret_key=…"
            )
        if parsed.host not in url:  # made lower-case on the way
            raise InvalidUrlError(f"{shown!r}: the name of a bucket is in lower case")
        try:
            return cls(parsed.host, prefix=parsed.path, **cast("dict[str, Any]", dict(parsed.settings)))
        except InvalidOptionError as error:
            raise InvalidUrlError(f"{shown!r}: {error}") from None


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError("it must be true or false")
    return text == "true"


_SETTINGS: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(
        [
            *("endpoint", "region", "access_key", "secret_key", "session_token"),
            *("addressing", "storage_class", "sse", "kms_key"),
        ],
        str,
    ),
    **dict.fromkeys(["part_bytes", "concurrency", "max_attempts"], int),
    **dict.fromkeys(["connect_timeout", "timeout"], float),
    "create_bucket": _flag,
}


def _check_endpoint(endpoint: str | None) -> None:
    if endpoint is None:
        return
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.username is not None or parts.password is not None:  # and so isn't shown
        raise InvalidOptionError("endpoint holds a user or a password; they go into access_key and secret_key")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise InvalidOptionError(f"endpoint is {endpoint[:80]!r}; it must be a URL such as http://localhost:9000")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidOptionError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InvalidOptionError(f"{name} is {value!r}; it must be {least} to {most}")
