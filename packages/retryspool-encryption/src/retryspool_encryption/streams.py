"""The two files of an encrypted payload: one seals what is written, one opens what is read, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import BinaryIO

from cryptography.exceptions import InvalidTag

from retryspool.errors import BackendError, RetrySpoolError
from retryspool.middleware import BlockReader, BlockWriter, read_exactly
from retryspool_encryption.frame import PREFIX_BYTES, TAG_BYTES, VERSION, Aead, Head, nonce
from retryspool_encryption.keys import Key
from retryspool_encryption.sources import KeyRing

__all__ = ["DecryptingReader", "EncryptingWriter"]


class EncryptingWriter(BlockWriter):
    """Seals each chunk by its number, and the last as the last."""

    def __init__(self, sink: BinaryIO, name: str, key: Key, message_id: str, purpose: str) -> None:
        head, self._aead = Head.new(name, key, purpose)
        super().__init__(sink, head.chunk_bytes, head.stored)
        self._associated = head.associated(message_id)
        self._number = 0

    def encode_block(self, block: bytes | memoryview, *, is_last: bool) -> Iterable[bytes]:
        sealed = self._aead.encrypt(nonce(self._number, is_last=is_last), block, self._associated)
        self._number += 1
        return (sealed,)


class DecryptingReader(BlockReader):
    """Opens chunk by chunk; nothing of a chunk is handed out before all of it is proven.

    :param what: what is read, for errors
    :param refused: makes the error of what isn't as it was written
    :raises BackendError: its key isn't there
    """

    def __init__(
        self,
        source: BinaryIO,
        keys: KeyRing,
        message_id: str,
        purpose: str,
        *,
        what: str,
        refused: Callable[[str], RetrySpoolError],
    ) -> None:
        super().__init__(source)
        self._refused = refused
        self._number = 0
        self._has_ended = False
        head = self._read_head(what)
        self._sealed_bytes = head.chunk_bytes + TAG_BYTES
        self._associated = head.associated(message_id)
        self._head_bytes = len(head.stored)
        self._aead = self._opened(head, keys.get(head.key_id, what), purpose, what)
        self._ahead = read_exactly(source, self._sealed_bytes)

    def _read_head(self, what: str) -> Head:
        prefix = read_exactly(self._source, PREFIX_BYTES)
        try:
            left = Head.rest_bytes(prefix)
            if prefix[3] != VERSION:
                msg = (
                    f"{what} is encrypted in format version {prefix[3]}, this is version {VERSION}: "
                    "pip install --upgrade retryspool-encryption"
                )
                raise BackendError(msg)
            return Head.parse(prefix, read_exactly(self._source, left))
        except ValueError as error:
            raise self._refused(f"as an encrypted stream, {error}") from error

    @staticmethod
    def _opened(head: Head, key: Key, purpose: str, what: str) -> Aead:
        aead = head.aead(key, purpose)
        if aead is None:
            msg = f"{what} is encrypted with another key of the id {key.id!r} than the one that is there, or is damaged"
            raise BackendError(msg)
        return aead

    def restart(self) -> None:
        self._number, self._has_ended = 0, False
        read_exactly(self._source, self._head_bytes)
        self._ahead = read_exactly(self._source, self._sealed_bytes)

    def next_block(self) -> bytes:
        if self._has_ended:
            return b""
        sealed = self._ahead
        self._ahead = read_exactly(self._source, self._sealed_bytes) if len(sealed) == self._sealed_bytes else b""
        is_last = not self._ahead
        opened = self._open(sealed, is_last=is_last)
        if not opened and self._number:
            raise self._refused("as an encrypted stream, it ends with an empty chunk")
        self._number += 1
        self._has_ended = is_last
        return opened

    def _open(self, sealed: bytes, *, is_last: bool) -> bytes:
        opened = self._try(sealed, is_last=is_last)
        if opened is None:
            cut = is_last and (len(sealed) < TAG_BYTES or self._try(sealed, is_last=False) is not None)
            longer = not is_last and self._try(sealed, is_last=True) is not None
            what = (
                "is cut off" if cut else "goes on after its end" if longer else "was altered, or is another message's,"
            )
            raise self._refused(f"as an encrypted stream, it {what} at chunk {self._number}")
        return opened

    def _try(self, sealed: bytes, *, is_last: bool) -> bytes | None:
        try:
            return self._aead.decrypt(nonce(self._number, is_last=is_last), sealed, self._associated)
        except InvalidTag:
            return None
