"""The settings: where the file lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from retryspool.errors import InvalidUrlError
from retryspool.meta import MetaFactory
from retryspool.namespaces import validate_namespace
from retryspool.urls import parse_url, redact
from retryspool_onefile_meta.backend import OneFileMeta
from retryspool_onefile_meta.store import FileStore

__all__ = ["OneFileMetaFactory"]


@dataclass(frozen=True)
class OneFileMetaFactory(MetaFactory):
    """All records in one JSON file."""

    name: ClassVar[str] = "onefile"

    path: Path
    """The file; it's made if it isn't there, and so is its folder."""

    def create(self) -> OneFileMeta:
        return OneFileMeta(FileStore.open(self.path))

    def in_namespace(self, namespace: str) -> Self:
        """Return the factory of a file of the same name, in a folder of the namespace's name beside this one."""
        return replace(self, path=self.path.parent / validate_namespace(namespace) / self.path.name)

    def destroy(self) -> None:
        FileStore.remove(self.path)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Take the path from `onefile:/var/spool/example/records.json`."""
        parsed = parse_url(url, {})  # no settings: any is an error
        if parsed.host or not parsed.path:
            raise InvalidUrlError(f"{redact(url)!r} is no path of a file: it is onefile:/path/to/records.json")
        return cls(Path(parsed.path))
