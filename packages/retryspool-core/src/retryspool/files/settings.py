"""The settings that every backend on local files has, by argument and by URL."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, cast

from retryspool.errors import InvalidOptionError, InvalidUrlError
from retryspool.files.durability import Durability, SyncMode
from retryspool.namespaces import validate_namespace
from retryspool.urls import parse_url, redact

__all__ = ["FileSettings"]


def _octal(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("it must be in octal digits, such as 0750")
    return int(text, 8)


@dataclass(frozen=True)
class FileSettings:
    """A folder, and how files are kept in it.

    :raises InvalidOptionError: a setting is out of its range
    """

    url_settings: ClassVar[Mapping[str, Callable[[str], object]]] = {
        "sync": str,
        "sync_interval": float,
        "dir_mode": _octal,
        "file_mode": _octal,
    }
    """What a URL may set, each with what converts the text."""

    path: str | os.PathLike[str]
    """The folder; it's made if it isn't there. A relative one is taken from the current directory on opening."""
    sync: SyncMode | str = field(default=SyncMode.STANDARD, kw_only=True)
    """What a power cut may take: a mode, or its name."""
    sync_interval: float = field(default=1.0, kw_only=True)
    """How long names may wait in hybrid mode, in seconds."""
    dir_mode: int = field(default=0o755, kw_only=True)
    """The permissions of the directories that are made, less the umask."""
    file_mode: int | None = field(default=None, kw_only=True)
    """The permissions of files, less the umask; None for all that it leaves."""

    def __post_init__(self) -> None:
        path = os.fspath(self.path)
        if not path or "\0" in path:
            raise InvalidOptionError(f"path is {path!r}; it must be that of a folder")
        # Settings that mean the same are equal, however they were given.
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "sync", self.durability().mode)
        _check_mode("dir_mode", self.dir_mode, needed=0o700)
        if self.file_mode is not None:
            _check_mode("file_mode", self.file_mode, needed=0o600)

    @property
    def folder(self) -> str:
        """The absolute path of the folder, as of now."""
        return os.path.abspath(self.path)

    def durability(self) -> Durability:
        """Return what syncs by these settings, for one backend instance."""
        try:
            mode = SyncMode(self.sync)
        except ValueError:
            names = ", ".join(each.value for each in SyncMode)
            raise InvalidOptionError(f"sync is {self.sync!r}; it must be one of {names}") from None
        return Durability(mode, self.sync_interval)

    def in_namespace(self, namespace: str) -> Self:
        """Return the same settings for the folder of this name within this one."""
        return replace(self, path=os.path.join(self.path, validate_namespace(namespace)))

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Take the settings from `fs:///var/spool/x`, or from `fs:spool/x` in the current directory.

        `sync`, `sync_interval` (in seconds), `dir_mode` and `file_mode` (octal) may follow, as in `?sync=hybrid`.
        """
        parsed = parse_url(url, cls.url_settings)
        shown = redact(url)
        if parsed.host or parsed.user or parsed.port is not None:
            raise InvalidUrlError(f"{shown!r} names a host; it is fs:///absolute/folder or fs:relative/folder")
        settings = cast("dict[str, Any]", dict(parsed.settings))
        try:
            return cls(parsed.path, **settings)
        except InvalidOptionError as error:
            raise InvalidUrlError(f"{shown!r}: {error}") from None


def _check_mode(name: str, mode: int, *, needed: int) -> None:
    if not 0 <= mode <= 0o7777 or mode & needed != needed:  # noqa: PLR2004 -- all the bits that there are
        raise InvalidOptionError(
            f"{name} is {mode:#o}; it must be from {needed:#o} to 0o7777 and give its owner {needed:#o}, as in 0o755"
        )
