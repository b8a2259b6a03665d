"""Records in a table of SQLite: small, on disk, and joined by whoever has a transaction open on the same database."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Self

from retryspool import records
from retryspool.deadline import check_deadline
from retryspool.errors import (
    BackendClosedError,
    BackendError,
    BackendUnavailableError,
    CorruptRecordError,
    InvalidUrlError,
    MessageExistsError,
    MessageNotFoundError,
    NotSupportedError,
)
from retryspool.ids import validate_message_id
from retryspool.meta import ListOptions, ListResult, MetaBackend, MetaCapabilities, MetaFactory, check_claim
from retryspool.model import MessageMetadata, State, utc_now
from retryspool.namespaces import validate_namespace
from retryspool.urls import parse_url, redact

_RETRY_S = 0.003
_TIMES = ("next_retry", "created", "updated", "lease_expires")
_SORTED = ("created", "updated", "priority", "attempts", "next_retry")
_TABLE = """
CREATE TABLE IF NOT EXISTS retryspool_messages (
    id TEXT PRIMARY KEY, state INTEGER, due TEXT, route TEXT, claimed_from INTEGER, body TEXT,
    created TEXT, updated TEXT, priority INTEGER, attempts INTEGER, next_retry TEXT
) WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS retryspool_due ON retryspool_messages (state, due)"


class SqliteMeta(MetaBackend):
    """A connection for each call: nothing is shared between threads, or with a fork."""

    capabilities: ClassVar[MetaCapabilities] = MetaCapabilities(
        processes=True, durable=True, server_clock=False, contract="1.1"
    )

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closed = False
        with self._connected() as db:
            _patiently(db, "PRAGMA journal_mode = WAL")  # so that who reads waits for nobody
        with self._writing() as db:
            db.execute(_TABLE)
            db.execute(_INDEX)

    # -- transactions --------------------------------------------------------------------------------------------------

    @contextmanager
    def _connected(self) -> Generator[sqlite3.Connection]:
        """Return a connection that commits each statement by itself, unless a transaction is begun."""
        self._check()
        with wrapping(self._path), closing(sqlite3.connect(self._path, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = FULL")
            yield db

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        """Return a connection in a transaction, which is rolled back if the block raises."""
        with self._connected() as db:
            _patiently(db, "BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def _check(self) -> None:
        if self._closed:
            raise BackendClosedError
        check_deadline()

    def joining(self, transaction: object) -> MetaBackend:
        """Return this store as a transaction of the caller's sees it: `transaction` is a `sqlite3.Connection`."""
        self._check()
        if not isinstance(transaction, sqlite3.Connection):
            raise NotSupportedError(f"a transaction is a sqlite3.Connection here, not {type(transaction).__name__}")
        with wrapping(self._path):
            ((_, _, file), *_) = transaction.execute("PRAGMA database_list").fetchall()
        if not file or not self._path.samefile(file):
            raise NotSupportedError(f"the connection is to {file or 'a database in memory'}; the records: {self._path}")
        if transaction.isolation_level is None and not transaction.in_transaction:
            raise NotSupportedError("the connection commits each statement by itself; execute BEGIN first")
        return JoinedSqliteMeta(self._path, transaction)

    def is_pending(self, message_id: str) -> bool:
        """Tell whether anybody has a transaction open that writes."""
        validate_message_id(message_id)
        self._check()
        with self._connected() as db:
            is_free = _done(db, "BEGIN IMMEDIATE")
            if is_free:
                db.execute("ROLLBACK")
        return not is_free

    # -- single records ------------------------------------------------------------------------------------------------

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        with self._writing() as db:
            if db.execute("SELECT 1 FROM retryspool_messages WHERE id = ?", [message_id]).fetchone():
                raise MessageExistsError(message_id)
            return _put(db, records.created(metadata, utc_now()))

    def get_meta(self, message_id: str) -> MessageMetadata:
        validate_message_id(message_id)
        with self._connected() as db:
            return _get(db, message_id)

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        with self._writing() as db:
            return _put(db, records.updated(_get(db, message_id), metadata, utc_now(), if_version))

    def delete_meta(self, message_id: str, *, if_version: int | None = None) -> None:
        validate_message_id(message_id)
        with self._writing() as db:
            records.check_version(_get(db, message_id), if_version)
            db.execute("DELETE FROM retryspool_messages WHERE id = ?", [message_id])

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        validate_message_id(message_id)
        with self._writing() as db:
            return _put(db, records.moved(_get(db, message_id), from_state, to_state, utc_now()))

    # -- many ----------------------------------------------------------------------------------------------------------

    def claim(
        self,
        sources: Sequence[State],
        *,
        limit: int,
        lease: timedelta,
        owner: str,
        exclude_routes: Collection[str] = (),
        oldest_first: bool = False,
    ) -> list[MessageMetadata]:
        check_claim(sources, limit=limit, lease=lease, owner=owner)
        claimed: list[MessageMetadata] = []
        with self._writing() as db:
            now = utc_now()
            for state in dict.fromkeys((State.ACTIVE, *sources)):
                query = (
                    "SELECT id, body FROM retryspool_messages WHERE state = ? AND due <= ?"
                    " AND route NOT IN (SELECT value FROM json_each(?))"
                    " AND (state <> 1 OR claimed_from IS NULL OR claimed_from IN (SELECT value FROM json_each(?)))"
                    f" ORDER BY {'' if oldest_first else 'priority,'} due, id LIMIT ?"
                )
                excluded, origins = json.dumps(list(exclude_routes)), json.dumps([each.value for each in sources])
                found = db.execute(query, [state.value, _text(now), excluded, origins, limit - len(claimed)]).fetchall()
                claimed += [
                    _put(db, records.claimed(_decoded(*row), owner=owner, lease=lease, now=now)) for row in found
                ]
        return claimed

    def list_messages(self, state: State, options: ListOptions = ListOptions()) -> ListResult:  # noqa: B008 -- frozen
        where, values = "state = ?", [state.value, *()]
        if options.since is not None:
            where += " AND max(created, updated) >= ?"
            values.append(_text(options.since))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        way = "DESC" if options.descending else "ASC"
        order = f"{options.sort_by.value} {way}, id {way} LIMIT ? OFFSET ?"
        with self._connected() as db:
            ((total,),) = db.execute(f"SELECT count(*) FROM retryspool_messages WHERE {where}", values).fetchall()
            page = db.execute(
                f"SELECT id FROM retryspool_messages WHERE {where} ORDER BY {order}",
                [*values, options.limit, options.offset],
            ).fetchall()
        return ListResult(tuple(row[0] for row in page), total, has_more=options.offset + len(page) < total)

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:
        after = ""
        query = "SELECT id, body FROM retryspool_messages WHERE state = ? AND id > ? ORDER BY id LIMIT ?"
        while True:
            with self._connected() as db:
                rows = db.execute(query, [state.value, after, batch_size]).fetchall()
            if not rows:
                return
            for row in rows:
                self._check()
                yield _decoded(*row)
            after = rows[-1][0]

    def close(self) -> None:
        self._closed = True


class JoinedSqliteMeta(SqliteMeta):
    """The same store, by the caller's connection: what is written is the caller's to commit."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._closed = False

    @contextmanager
    def _connected(self) -> Generator[sqlite3.Connection]:
        self._check()
        with wrapping(self._path):
            yield self._connection

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        with self._connected() as db:
            if not db.in_transaction:  # its own would begin with the first change, and end with the savepoint
                db.execute("BEGIN IMMEDIATE")
            db.execute("SAVEPOINT retryspool")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK TO retryspool")
                raise
            finally:
                db.execute("RELEASE retryspool")

    def joining(self, transaction: object) -> MetaBackend:
        if transaction is self._connection:
            return self
        return super().joining(transaction)

    def is_pending(self, message_id: str) -> bool:
        validate_message_id(message_id)
        try:
            with self._writing() as db:  # where this transaction has the lock, no other has
                db.execute("DELETE FROM retryspool_messages WHERE 0")
        except BackendUnavailableError:
            return True
        return False

    def close(self) -> None:
        """Leave the connection to its owner."""


@dataclass(frozen=True)
class SqliteMetaFactory(MetaFactory):
    """Records in a table of a database, which may hold others."""

    name: ClassVar[str] = "sqlite"

    path: Path

    def create(self) -> SqliteMeta:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return SqliteMeta(self.path)

    def in_namespace(self, namespace: str) -> Self:
        return replace(self, path=self.path.with_name(f"{validate_namespace(namespace)}-{self.path.name}"))

    def destroy(self) -> None:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).unlink()

    @classmethod
    def from_url(cls, url: str) -> Self:
        parsed = parse_url(url, {})
        if parsed.host or not parsed.path:
            raise InvalidUrlError(f"{redact(url)!r} is no path of a file")
        return cls(Path(parsed.path))


@contextmanager
def wrapping(path: Path) -> Generator[None]:
    """Raise the driver's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise BackendUnavailableError(f"{path}: {error}", outcome="none") from error
    except sqlite3.Error as error:
        raise BackendError(f"{path}: {error}") from error


def _patiently(db: sqlite3.Connection, statement: str) -> None:
    """Run a statement that needs a lock, once no other connection has it.

    SQLite's own pauses grow to a tenth of a second, and for a change of the journal it doesn't wait at all.
    """
    while not _done(db, statement):
        check_deadline()
        threading.Event().wait(_RETRY_S)


def _done(db: sqlite3.Connection, statement: str) -> bool:
    """Run a statement that needs a lock, unless another connection has it; tell whether it was run."""
    db.execute("PRAGMA busy_timeout = 0")
    try:
        db.execute(statement)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return False
        raise
    finally:
        db.execute("PRAGMA busy_timeout = 5000")
    return True


def _get(db: sqlite3.Connection, message_id: str) -> MessageMetadata:
    row = db.execute("SELECT id, body FROM retryspool_messages WHERE id = ?", [message_id]).fetchone()
    if row is None:
        raise MessageNotFoundError(message_id)
    return _decoded(*row)


def _put(db: sqlite3.Connection, record: MessageMetadata) -> MessageMetadata:
    origin = record.claimed_from
    fields: dict[str, Any] = {**asdict(record), "headers": dict(record.headers), "state": record.state.value}
    fields |= {name: _text(getattr(record, name)) for name in _TIMES}
    fields["claimed_from"] = None if origin is None else origin.value
    columns = [record.id, fields["state"], _text(records.due_at(record)), record.route, fields["claimed_from"]]
    values = [*columns, json.dumps(fields), *(fields[name] for name in _SORTED)]
    db.execute(f"INSERT OR REPLACE INTO retryspool_messages VALUES ({', '.join('?' * len(values))})", values)
    return record


def _decoded(message_id: str, body: str) -> MessageMetadata:
    try:
        fields = json.loads(body)
        fields |= {name: datetime.fromisoformat(fields[name]) for name in _TIMES}
        fields |= {"state": State(fields["state"])}
        fields["claimed_from"] = None if fields["claimed_from"] is None else State(fields["claimed_from"])
        return MessageMetadata(**fields)
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptRecordError(f"the record of message {message_id!r} can't be read: {error}") from error


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")
