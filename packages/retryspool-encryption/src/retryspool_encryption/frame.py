"""What is stored, format version 1; it is read for ever.

.. code-block:: text

    stream  "RSE" version:1 algorithm:1 chunk:1 id_length:1 id salt:16 check:16  chunk … chunk

A payload is cut into chunks of 2**chunk bytes, the last one shorter, and empty only where the payload is. Each is
sealed with its 16 bytes of tag in the manner of STREAM (Hoang, Reyhanitabar, Rogaway and Vizár, 2015): its nonce is its
number, eleven bytes from 0 on, and one byte that is 1 for the last chunk, else 0. Associated data is the head, as
stored, and the message's id. So no chunk can be altered, left out, repeated, put elsewhere, or taken for another
message's.

The stream's own key and the check are drawn from the master key by HKDF-SHA256 with the salt, which is random: 32 and
16 bytes, by an info text that names the algorithm and what is sealed, a payload or headers. The check tells a wrong key
from damaged bytes; it ties the stream to one key.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from retryspool_encryption.keys import KEY_BYTES, Key

__all__ = ["ALGORITHMS", "CHUNK_EXPONENT", "PREFIX_BYTES", "TAG_BYTES", "VERSION", "Aead", "Head", "nonce"]

VERSION = 1
PREFIX_BYTES = 7
"""What stands before the key's id, in bytes."""
TAG_BYTES = 16
CHUNK_EXPONENT = 18
"""Chunks of 256 KiB: larger ones are no faster."""
_EXPONENTS = range(10, 23)
_MAGIC: Final = b"RSE"
_SALT_BYTES = 16
_CHECK_BYTES = 16

ALGORITHMS: Final = {"aes-256-gcm": 1, "chacha20-poly1305": 2}
"""By the middleware's name, what stands for them in what is stored."""
_AEADS: Final[dict[int, Callable[[bytes], Aead]]] = {1: AESGCM, 2: ChaCha20Poly1305}


class Aead(Protocol):
    """Authenticated encryption with associated data (RFC 5116)."""

    def encrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes, /) -> bytes:
        """Seal some bytes."""
        ...

    def decrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes, /) -> bytes:
        """Open what was sealed."""
        ...


def nonce(number: int, *, is_last: bool) -> bytes:
    """Return the nonce of a chunk."""
    return number.to_bytes(11) + bytes([is_last])


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a stream, in its parts."""

    algorithm: int
    chunk_exponent: int
    key_id: str
    salt: bytes
    check: bytes

    @classmethod
    def new(cls, name: str, key: Key, purpose: str) -> tuple[Head, Aead]:
        """Return the head of a new stream, and what seals its chunks."""
        algorithm = ALGORITHMS[name]
        salt = os.urandom(_SALT_BYTES)
        aead, check = _derived(algorithm, key, salt, purpose)
        return cls(algorithm, CHUNK_EXPONENT, key.id, salt, check), aead

    @classmethod
    def rest_bytes(cls, prefix: bytes) -> int:
        """Return how many bytes follow the first seven.

        :raises ValueError: no stream begins like these
        """
        if len(prefix) < PREFIX_BYTES or not prefix.startswith(_MAGIC):
            raise ValueError(f"it begins with {prefix!r}, not {_MAGIC!r}")
        if prefix[3] == VERSION and (prefix[4] not in _AEADS or prefix[5] not in _EXPONENTS or not prefix[6]):
            raise ValueError("its head is damaged")
        return prefix[6] + _SALT_BYTES + _CHECK_BYTES

    @classmethod
    def parse(cls, prefix: bytes, rest: bytes) -> Head:
        """Take a head apart.

        :raises ValueError: it is cut off, or damaged
        """
        if len(rest) != cls.rest_bytes(prefix):
            raise ValueError("it is cut off in its head")
        key_id, salted = rest[: prefix[6]], rest[prefix[6] :]
        return cls(prefix[4], prefix[5], key_id.decode("ascii"), salted[:_SALT_BYTES], salted[_SALT_BYTES:])

    @property
    def stored(self) -> bytes:
        """The head as it is stored."""
        prefix = bytes([VERSION, self.algorithm, self.chunk_exponent, len(self.key_id)])
        return _MAGIC + prefix + self.key_id.encode() + self.salt + self.check

    @property
    def chunk_bytes(self) -> int:
        """The size of a chunk before it's sealed, in bytes."""
        return 1 << self.chunk_exponent

    def associated(self, message_id: str) -> bytes:
        """Return what each chunk is bound to."""
        return self.stored + message_id.encode()

    def aead(self, key: Key, purpose: str) -> Aead | None:
        """Return what opens the chunks; None if it isn't this key that they were sealed with."""
        aead, check = _derived(self.algorithm, key, self.salt, purpose)
        return aead if bytes_eq(check, self.check) else None


def _derived(algorithm: int, key: Key, salt: bytes, purpose: str) -> tuple[Aead, bytes]:
    (name,) = (name for name, number in ALGORITHMS.items() if number == algorithm)
    info = f"retryspool-encryption v{VERSION} {name} {purpose}".encode()
    drawn = HKDF(algorithm=SHA256(), length=KEY_BYTES + _CHECK_BYTES, salt=salt, info=info).derive(key.secret)
    return _AEADS[algorithm](drawn[:KEY_BYTES]), drawn[KEY_BYTES:]
