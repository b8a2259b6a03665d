"""The middleware, one class an algorithm."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self

from retryspool.errors import CorruptDataError, InvalidOptionError, InvalidUrlError, NotSupportedError
from retryspool.middleware import Middleware, MiddlewareCapabilities, settings_of
from retryspool.urls import redact
from retryspool_encryption.keys import Key
from retryspool_encryption.sources import EnvironmentKeys, FileKeys, KeyRing, KeySource
from retryspool_encryption.streams import DecryptingReader, EncryptingWriter

__all__ = ["Aes256Gcm", "ChaCha20Poly1305"]

_PAYLOAD, _HEADERS = "payload", "headers"


def _flag(text: str) -> bool:
    if text not in {"0", "1"}:
        raise ValueError(f"{text!r} is neither 0 nor 1")
    return text == "1"


@dataclass(frozen=True, kw_only=True)
class _Encryption(Middleware):
    """What the algorithms have in common. Each reads what the other has written: the stream says which it is.

    Of several keys the first encrypts, and each decrypts.

    :raises InvalidOptionError: not exactly one of `key_file`, `key_env` and `keys` is given, or there's no key there
    """

    capabilities: ClassVar[MiddlewareCapabilities] = MiddlewareCapabilities(
        integrity=True, binds_ids=True, conceals=True
    )

    key_file: str | Path | None = None
    """A file of keys, one a line: `id:secret`, the secret in Base64. Others must not be able to read it."""
    key_env: str | None = None
    """The name of an environment variable that holds keys, separated by commas or white space."""
    keys: Sequence[Key] | KeySource | None = field(default=None, repr=False)
    """The keys themselves, or a function that fetches them, from a key management service for example."""
    headers: bool = False
    """Whether messages' headers are encrypted too. Route, priority, times and errors never are."""
    decrypt_only: bool = False
    """Whether what is there is read, and nothing new is encrypted."""
    _ring: KeyRing = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sources = [
            FileKeys(self.key_file) if self.key_file is not None else None,
            EnvironmentKeys(self.key_env) if self.key_env is not None else None,
            self.keys,
        ]
        given = [source for source in sources if source is not None]
        if len(given) != 1:
            how = "by none of" if not given else "by more than one of"
            msg = f"{self.name}: keys are given {how} key_file, key_env and keys; it must be one"
            raise InvalidOptionError(msg)
        object.__setattr__(self, "_ring", KeyRing(given[0]))

    def __getstate__(self) -> dict[str, Any]:
        """Pickle where keys come from, never a key."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    @classmethod
    def from_url(cls, url: str) -> Self:
        known: dict[str, Callable[[str], object]] = {
            "key-file": str,
            "key-env": str,
            "headers": _flag,
            "decrypt-only": _flag,
        }
        given = settings_of(url, known)
        try:
            return cls(**{name.replace("-", "_"): value for name, value in given.items()})  # type: ignore[arg-type]
        except InvalidOptionError as error:
            raise InvalidUrlError(f"{redact(url)!r}: {error}") from error

    @classmethod
    def for_reading(cls) -> Middleware:
        msg = f'its key is needed: open the spool with middleware=["{cls.name}:?key-file=FILE"], or --middleware'
        raise NotSupportedError(msg)

    @property
    def decode_only(self) -> bool:
        return self.decrypt_only

    @property
    def seals_headers(self) -> bool:
        return self.headers

    # -- payloads ------------------------------------------------------------------------------------------------------

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:
        return EncryptingWriter(sink, self.name, self._ring.first, message_id, _PAYLOAD)

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:
        return DecryptingReader(
            source,
            self._ring,
            message_id,
            _PAYLOAD,
            what=f"the payload of message {message_id!r}",
            refused=lambda what: CorruptDataError(message_id, what),
        )

    # -- headers -------------------------------------------------------------------------------------------------------

    def seal_headers(self, message_id: str, headers: Mapping[str, str]) -> str:
        sink = io.BytesIO()
        with EncryptingWriter(sink, self.name, self._ring.first, message_id, _HEADERS) as writer:
            writer.write(json.dumps(dict(headers), separators=(",", ":"), ensure_ascii=False).encode())
        return base64.b64encode(sink.getvalue()).decode()

    def open_headers(self, message_id: str, sealed: str) -> Mapping[str, str]:
        what = f"what stands for the headers of message {message_id!r}"

        def refused(found: str) -> CorruptDataError:
            return CorruptDataError(message_id, found, part="headers")

        try:
            stored = base64.b64decode(sealed, validate=True)
        except (binascii.Error, ValueError):
            raise refused("what stands for them isn't Base64") from None
        with DecryptingReader(
            io.BytesIO(stored), self._ring, message_id, _HEADERS, what=what, refused=refused
        ) as reader:
            headers: dict[str, str] = json.loads(reader.read())
        return headers


@dataclass(frozen=True, kw_only=True)
class Aes256Gcm(_Encryption):
    """AES-256-GCM: the one to choose where the processor has instructions for AES, as nearly all have."""

    name: ClassVar[str] = "aes-256-gcm"
    reads: ClassVar[tuple[str, ...]] = ("chacha20-poly1305",)


@dataclass(frozen=True, kw_only=True)
class ChaCha20Poly1305(_Encryption):
    """ChaCha20-Poly1305: faster where it hasn't."""

    name: ClassVar[str] = "chacha20-poly1305"
    reads: ClassVar[tuple[str, ...]] = ("aes-256-gcm",)
