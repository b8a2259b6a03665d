"""What a mutant is, and how the suite opens one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from retryspool_onefile_meta import OneFileMetaFactory
from sqlite_meta import SqliteMeta, SqliteMetaFactory

from retryspool.data import DataBackend, DataFactory
from retryspool.memory import MemoryDataFactory, MemoryMeta, MemoryMetaFactory
from retryspool.meta import MetaBackend, MetaFactory
from retryspool_fs_data import FsDataBackend, FsDataFactory
from retryspool_fs_meta import FsMetaBackend, FsMetaFactory

__all__ = ["MUTANTS", "Mutant", "MutantDataFactory", "MutantMetaFactory", "mutant"]

Class = TypeVar("Class", bound=type)
Backend = TypeVar("Backend", MetaBackend, DataBackend)


@dataclass(frozen=True)
class Mutant:
    """A backend with one bug."""

    name: str
    bug: str
    """What is wrong, in a line."""
    clause: str
    """The clause that it breaks."""
    backend: type[Any]


MUTANTS: dict[str, Mutant] = {}


def mutant(clause: str) -> Callable[[Class], Class]:
    """Plant a backend's class; its docstring says the bug."""

    def plant(backend: Class) -> Class:
        name = re.sub(r"(?<!^)(?=[A-Z])", "-", backend.__name__).lower()
        MUTANTS[name] = Mutant(name, (backend.__doc__ or "").strip(), clause, backend)
        return backend

    return plant


def planted(backend: Backend, mutant: Mutant) -> Backend:
    """Return a sound backend with the bug in it: the same object, of another class."""
    backend.__class__ = mutant.backend
    getattr(backend, "plant", lambda: None)()
    return backend


@dataclass(frozen=True)
class MutantMetaFactory(MetaFactory):
    """Opens a metadata mutant on a store of the backend that it is made from."""

    name: ClassVar[str] = "mutant"

    mutant: str
    folder: Path
    store: str = ""

    @property
    def sane(self) -> MetaFactory:
        """The factory of the backend without the bug."""
        kind = MUTANTS[self.mutant].backend
        if issubclass(kind, MemoryMeta):
            return MemoryMetaFactory(f"mutant/{self.store}")
        if issubclass(kind, FsMetaBackend):
            return FsMetaFactory(self.folder / self.store)
        if issubclass(kind, SqliteMeta):
            return SqliteMetaFactory(self.folder / self.store / "records.db")
        return OneFileMetaFactory(self.folder / self.store / "records.json")

    def create(self) -> MetaBackend:
        return planted(self.sane.create(), MUTANTS[self.mutant])

    def in_namespace(self, namespace: str) -> Self:
        return type(self)(self.mutant, self.folder, namespace)

    def destroy(self) -> None:
        self.sane.destroy()

    @classmethod
    def from_url(cls, url: str) -> Self:
        raise NotImplementedError(url)


@dataclass(frozen=True)
class MutantDataFactory(DataFactory):
    """Opens a data mutant on a store of the backend that it is made from."""

    name: ClassVar[str] = "mutant"

    mutant: str
    folder: Path
    store: str = ""

    @property
    def sane(self) -> DataFactory:
        """The factory of the backend without the bug."""
        if issubclass(MUTANTS[self.mutant].backend, FsDataBackend):
            return FsDataFactory(self.folder / self.store)
        return MemoryDataFactory(f"mutant/{self.store}")

    def create(self) -> DataBackend:
        return planted(self.sane.create(), MUTANTS[self.mutant])

    def in_namespace(self, namespace: str) -> Self:
        return type(self)(self.mutant, self.folder, namespace)

    def destroy(self) -> None:
        self.sane.destroy()

    @classmethod
    def from_url(cls, url: str) -> Self:
        raise NotImplementedError(url)
