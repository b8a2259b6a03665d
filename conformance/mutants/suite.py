"""The suite on mutants, which the environment names: `RETRYSPOOL_MUTANTS`, separated by commas. Run by `run.py`.

Of each mutant only the clause is tried that it breaks.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlite_meta import SqliteMeta

from mutants import MUTANTS, Mutant, MutantDataFactory, MutantMetaFactory
from retryspool.conformance import DataBackendSuite, MetaBackendSuite, Transaction
from retryspool.conformance.exploring import explore
from retryspool.conformance.finishing import Running, eventually, finish
from retryspool.conformance.marks import clauses_of
from retryspool.conformance.meta.acting import wait_until
from retryspool.conformance.profiles import PROFILES
from retryspool.conformance.racing import race
from retryspool.data import DataFactory
from retryspool.meta import MetaBackend, MetaFactory


class _Base:
    mutant: Mutant
    folder: Path

    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path
        with ExitStack() as self.opened:
            yield

    def local_folder(self, namespace: str) -> Path:
        return self.folder / namespace

    def raw_get(self, namespace: str, message_id: str) -> bytes:
        return self._file(namespace, message_id).read_bytes()

    def raw_put(self, namespace: str, message_id: str, stored: bytes) -> None:
        self._file(namespace, message_id).write_bytes(stored)

    def _file(self, namespace: str, message_id: str) -> Path:
        found = [*(self.folder / namespace).glob(f"*/{message_id}.json")]
        return found[0] if found else pytest.skip("hook raw_get isn't given: this mutant is no folder of files")


class _MetaMutant(_Base, MetaBackendSuite):
    def begin_transaction(self, namespace: str) -> Transaction:
        if not issubclass(self.mutant.backend, SqliteMeta):
            pytest.skip("hook begin_transaction isn't given: this mutant is no database")
        connection = sqlite3.connect(self.folder / namespace / "records.db")
        self.opened.callback(connection.close)
        connection.execute("BEGIN")
        return connection

    def factory(self, namespace: str) -> MetaFactory:
        return MutantMetaFactory(self.mutant.name, self.folder).in_namespace(namespace)


class _DataMutant(_Base, DataBackendSuite):
    def factory(self, namespace: str) -> DataFactory:
        return MutantDataFactory(self.mutant.name, self.folder).in_namespace(namespace)


def _suite_of(mutant: Mutant) -> type[Any]:
    base = _MetaMutant if issubclass(mutant.backend, MetaBackend) else _DataMutant
    others = [
        name
        for name in dir(base)
        if (mark := clauses_of(getattr(base, name))) and mutant.clause not in {clause.id for clause in mark.clauses}
    ]
    body = {"mutant": mutant, "__module__": __name__, **dict.fromkeys(others)}
    return type(f"Test{mutant.backend.__name__}", (base,), body)


# A mutant that hangs, or whose lease never ends, would take half a minute in each test.
Running.result.__defaults__ = finish.__defaults__ = wait_until.__defaults__ = eventually.__defaults__ = (2.0,)
race.__defaults__ = (10.0,)

# That it's found is enough: the smallest example may take minutes to find.
explore.__kwdefaults__ = {"shrink": False}

# A kill finds a bug only where it falls, and a history only what happens in it: one in six or so shows a bug, in some
# milliseconds, and the first one that does is the last.
PROFILES["quick"] = replace(
    PROFILES["quick"], kills=12, histories=100, examples=15, model_runs=15, races=PROFILES["ci"].races
)

for _name in os.environ["RETRYSPOOL_MUTANTS"].split(","):
    _suite = _suite_of(MUTANTS[_name])
    globals()[_suite.__name__] = _suite
