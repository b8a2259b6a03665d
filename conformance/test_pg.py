"""The data backend on PostgreSQL against the contract."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import ConnectionPool
from restarted import is_restarted

from retryspool.conformance import DataBackendSuite, Through
from retryspool.conformance.rerouting import reroute
from retryspool.data import DataFactory
from retryspool_cli.servers import PostgresServer
from retryspool_pg_data import BoundedConnection, PgDataFactory
from retryspool_pg_data.table import Table

_GO_TABLE = sql.SQL("""CREATE TABLE IF NOT EXISTS {table} (
    message_id VARCHAR(255) PRIMARY KEY,
    data BYTEA NOT NULL,
    size BIGINT NOT NULL,
    created TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    updated TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW()
)""")
_GO_PAYLOADS = {"msg-1": b"Subject: hello\r\n", "MSG-1": bytes(range(256)), "empty": b"", "large": b"x" * 3_000_000}


class TestPgData(DataBackendSuite):
    where: str
    server: PostgresServer | None
    pools: ExitStack

    @pytest.fixture(autouse=True)
    def _on_a_server(
        self, request: pytest.FixtureRequest, pg_url: str, new_postgres: Callable[[], PostgresServer]
    ) -> Iterator[None]:
        """Use the server that all tests share, or one of the test's own if it's to be restarted."""
        self.server = new_postgres() if is_restarted(request) else None
        self.where = self.server.url if self.server else pg_url
        with ExitStack() as self.pools:
            yield

    def factory(self, namespace: str) -> PgDataFactory:
        return PgDataFactory.from_url(self.where).in_namespace(namespace)

    def url(self) -> str:
        return f"{self.where}?table=by_url&max_size=3&prepare=off"

    def raw_get(self, namespace: str, message_id: str) -> bytes:
        with self._row(namespace, message_id) as (_, _, generation, stored, chunks):
            return stored if generation is None else b"".join(chunks)

    def raw_put(self, namespace: str, message_id: str, stored: bytes) -> None:
        with self._row(namespace, message_id) as (connection, table, generation, _, chunks):
            if generation is None:
                statement = sql.SQL("UPDATE {} SET data = %s WHERE message_id = %s").format(table.beside(""))
                connection.execute(statement, (stored, message_id))
                return
            update = sql.SQL("UPDATE {} SET data = %s WHERE generation = %s AND number = %s")
            delete = sql.SQL("DELETE FROM {} WHERE generation = %s AND number = %s")
            for number, chunk in enumerate(chunks):
                part, stored = stored[: len(chunk)], stored[len(chunk) :]
                if part:
                    connection.execute(update.format(table.beside("_chunks")), (part, generation, number))
                else:
                    connection.execute(delete.format(table.beside("_chunks")), (generation, number))

    @contextmanager
    def _row(
        self, namespace: str, message_id: str
    ) -> Iterator[tuple[psycopg.Connection, Table, object, bytes, list[bytes]]]:
        factory = self.factory(namespace)
        table = Table.parse(factory.table)
        row = sql.SQL("SELECT generation, data FROM {} WHERE message_id = %s").format(table.beside(""))
        parts = sql.SQL("SELECT data FROM {} WHERE generation = %s ORDER BY number").format(table.beside("_chunks"))
        with psycopg.connect(factory.conninfo) as connection:
            ((generation, stored),) = connection.execute(row, (message_id,)).fetchall()
            chunks = [chunk for (chunk,) in connection.execute(parts, (generation,))]
            yield connection, table, generation, stored, chunks

    def old_formats(self) -> Mapping[str, Callable[[str], Mapping[str, bytes]]]:
        return {"the Go system's": self._as_the_go_system_stored_it}

    def _as_the_go_system_stored_it(self, namespace: str) -> Mapping[str, bytes]:
        factory = self.factory(namespace)
        table = Table.parse(factory.table).beside("")
        insert = sql.SQL("INSERT INTO {} (message_id, data, size) VALUES (%s, %s, %s)").format(table)
        with psycopg.connect(factory.conninfo) as connection:
            connection.execute(_GO_TABLE.format(table=table))
            for message_id, payload in _GO_PAYLOADS.items():
                connection.execute(insert, (message_id, payload, len(payload)))
        return _GO_PAYLOADS

    def sever_network(self, namespace: str, through: Through) -> DataFactory:
        return PgDataFactory.from_url(reroute(self.where, through)).in_namespace(namespace)

    def restart_server(self) -> None:
        assert self.server is not None
        self.server.restart(kill=True)

    def lend_client(self, namespace: str) -> tuple[DataFactory, Callable[[], bool]]:
        conninfo = self.factory(namespace).conninfo
        pool = self.pools.enter_context(
            ConnectionPool(conninfo, connection_class=BoundedConnection, min_size=1, max_size=4, open=True)
        )

        def works() -> bool:
            with pool.connection() as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)

        return PgDataFactory(pool=pool).in_namespace(namespace), works
