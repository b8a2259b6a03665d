"""Keys: what they are, and how they are written down. None shows its secret unless it's asked for it."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from typing import NoReturn, Self

from retryspool.errors import InvalidOptionError

__all__ = ["KEY_BYTES", "Key", "new_key", "parse_keys"]

KEY_BYTES = 32
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


class Key:
    """A master key and its id, which is stored with what is encrypted by it. It can be neither pickled nor printed.

    :param key_id: 1 to 32 characters of `A-Z a-z 0-9 . _ -`, the first a letter or digit; it's no secret
    :param secret: 32 bytes
    :raises InvalidOptionError: it isn't such an id, or not 32 bytes
    """

    __slots__ = ("_secret", "id")

    def __init__(self, key_id: str, secret: bytes) -> None:
        if _ID.fullmatch(key_id) is None:
            raise InvalidOptionError(
                "a key's id is 1 to 32 characters of A-Z a-z 0-9 . _ -, the first a letter or digit"
            )
        if len(secret) != KEY_BYTES:
            raise InvalidOptionError(f"key {key_id!r} has {len(secret)} bytes; it must have {KEY_BYTES}")
        self.id = key_id
        self._secret = bytes(secret)

    @property
    def secret(self) -> bytes:
        """Its 32 bytes."""
        return self._secret

    @property
    def text(self) -> str:
        """What a key file holds of it: its id, a colon, and its secret in Base64."""
        return f"{self.id}:{base64.b64encode(self._secret).decode()}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the key that `text` is.

        :raises InvalidOptionError: it isn't one; what it is isn't shown
        """
        key_id, colon, encoded = text.partition(":")
        try:
            secret = base64.b64decode(encoded, altchars=b"-_" if set(encoded) & {"-", "_"} else None, validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if not colon or len(secret) != KEY_BYTES:
            raise InvalidOptionError(f"a key is id:secret, the secret {KEY_BYTES} bytes in Base64")
        return cls(key_id, secret)

    def __repr__(self) -> str:
        """Return its id alone."""
        return f"<Key {self.id!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.id == other.id and secrets.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key isn't pickled: give its file, its environment variable, or what fetches it")


def new_key(key_id: str | None = None) -> Key:
    """Make a new key from the system's randomness, with a random id if none is given."""
    return Key(key_id or secrets.token_hex(4), secrets.token_bytes(KEY_BYTES))


def parse_keys(text: str, where: str) -> list[Key]:
    """Return the keys of a text, one a line; empty lines and those that begin with `#` are left out.

    :raises InvalidOptionError: a line isn't a key; it isn't shown
    """
    keys: list[Key] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                keys.append(Key.from_text(line.strip()))
            except InvalidOptionError as error:
                raise InvalidOptionError(f"{where}, line {number}: {error}") from None
    return keys
