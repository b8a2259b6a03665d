"""Where keys come from: a file, an environment variable, or a function."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from retryspool.errors import BackendError, InvalidOptionError
from retryspool_encryption.keys import Key, parse_keys

__all__ = ["EnvironmentKeys", "FileKeys", "KeyRing", "KeySource"]

KeySource = Callable[[], Iterable[Key]]
"""What fetches keys: the first encrypts, each decrypts. It's called again when a key is asked for that isn't there."""

_OTHERS = stat.S_IRWXO | stat.S_IWGRP


@dataclass(frozen=True, slots=True)
class FileKeys:
    """Keys from a file, one a line, that others can neither read nor change."""

    path: str | Path

    def __call__(self) -> list[Key]:
        """Read it.

        :raises InvalidOptionError: it isn't there, may be read by others, or holds something else
        """
        path = os.fspath(self.path)
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123 -- what is looked at is what is read
                status = os.fstat(file.fileno())
                if stat.S_ISREG(status.st_mode) and status.st_mode & _OTHERS:
                    mode = f"{stat.S_IMODE(status.st_mode):04o}"
                    msg = f"key file {path!r} may be read or changed by others (its mode is {mode}): chmod 600 {path}"
                    raise InvalidOptionError(msg)
                text = file.read()
        except FileNotFoundError:
            msg = f"there is no key file {path!r}; `python -m retryspool_encryption new-key {path}` makes one"
            raise InvalidOptionError(msg) from None
        except UnicodeDecodeError:
            raise InvalidOptionError(f"key file {path!r} is no text") from None
        except OSError as error:
            raise InvalidOptionError(f"key file {path!r} can't be read: {error.strerror}") from error
        return parse_keys(text, f"key file {path!r}")


@dataclass(frozen=True, slots=True)
class EnvironmentKeys:
    """Keys from an environment variable, separated by commas or white space."""

    variable: str

    def __call__(self) -> list[Key]:
        """Read it.

        :raises InvalidOptionError: it isn't set, or holds something else
        """
        text = os.environ.get(self.variable)
        if text is None:
            raise InvalidOptionError(f"there are no keys: the environment variable {self.variable} isn't set")
        return parse_keys("\n".join(text.replace(",", " ").split()), f"environment variable {self.variable}")


class KeyRing:
    """The keys at hand, by id.

    :raises InvalidOptionError: there's none, or two have one id
    """

    def __init__(self, source: KeySource | Sequence[Key]) -> None:
        self._source = source
        self._keys = self._fetched()

    def _fetched(self) -> dict[str, Key]:
        keys = list(self._source() if callable(self._source) else self._source)
        if not all(isinstance(key, Key) for key in keys):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOptionError("keys are objects of the class Key, the first of them to encrypt with")
        found = {key.id: key for key in keys}
        if not keys:
            raise InvalidOptionError("there are no keys")
        if len(found) != len(keys):
            raise InvalidOptionError(f"the ids of keys must differ: {', '.join(key.id for key in keys)}")
        return found

    @property
    def first(self) -> Key:
        """The key that encrypts."""
        return next(iter(self._keys.values()))

    def get(self, key_id: str, what: str) -> Key:
        """Return the key of this id. If it isn't there, all are fetched again: it may be newer than this process.

        :param what: what is to be decrypted, for the error
        :raises BackendError: it isn't there then either; the message names it, and those there are
        """
        if key_id not in self._keys and callable(self._source):
            try:
                self._keys = self._fetched()
            except InvalidOptionError as error:
                msg = f"{what} is encrypted with key {key_id!r}, which can't be fetched: {error}"
                raise BackendError(msg) from error
            except Exception as error:  # whatever fetches keys: nothing is wrong with the message
                msg = f"{what} is encrypted with key {key_id!r}, which can't be fetched: {type(error).__name__}"
                raise BackendError(msg) from error
        try:
            return self._keys[key_id]
        except KeyError:
            msg = f"{what} is encrypted with key {key_id!r}, which isn't there; there are: {', '.join(self._keys)}"
            raise BackendError(msg) from None
