"""What endangers payloads: settings of the server, and payloads that aren't whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from psycopg import sql

from retryspool.model import Finding, Severity
from retryspool_pg_data.connection import BoundedConnection
from retryspool_pg_data.store import Store

__all__ = ["findings"]

_MOST_BROKEN = 1000
_DOING = "checking the payloads"

_RISKY: Mapping[str, tuple[str, Severity, str]] = {
    "fsync": (
        "off",
        Severity.ERROR,
        "a power cut or a crash of the system may destroy the whole database; set fsync = on",
    ),
    "full_page_writes": ("off", Severity.ERROR, "a power cut may damage payloads silently; set full_page_writes = on"),
    "synchronous_commit": (
        "off",
        Severity.WARNING,
        "a crash of the server takes the last payloads with it; set synchronous_commit = on for this user",
    ),
}
"""Each setting's dangerous value, how bad it is, and what to do."""


def findings(store: Store) -> Iterator[Finding]:
    """Yield them."""
    settings = store.run(
        _DOING, b"SELECT name, setting FROM pg_settings WHERE name = ANY(%b::text[])", (list(_RISKY),), effect=False
    )
    for name, setting in settings:
        risky, severity, text = _RISKY[name]
        if setting == risky:
            yield Finding(severity, f"{name}={setting}", text)
    if store.run(_DOING, b"SELECT 1 WHERE pg_is_in_recovery()", effect=False):
        yield Finding(
            Severity.ERROR, "standby", "this server is a standby, which takes no payloads; connect to its primary"
        )
    yield from _of_tables(store)
    for message_id, size, found in store.run(_DOING, store.statements.list_broken, (_MOST_BROKEN,), effect=False):
        text = f"{found} bytes of this payload are there, {size} are noted; restore it from a backup, or delete it"
        yield Finding(Severity.ERROR, f"payload of {message_id}", text, message_id)


def _of_tables(store: Store) -> Iterator[Finding]:
    def ask(connection: BoundedConnection) -> list[tuple[str, bool, bool]]:
        found: list[tuple[str, bool, bool]] = []
        for suffix in ("", "_chunks", "_loose", "_readers"):
            name = sql.Identifier.as_string(store.table.beside(suffix), connection).replace("%%", "%")
            rows = connection.run(
                "SELECT relpersistence = 'u', (SELECT bool_and(has_table_privilege(c.oid, needed)) "
                "FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS needed) "
                "FROM pg_class AS c WHERE c.oid = to_regclass(%s)",
                (name,),
            )
            found += [(name, is_unlogged, is_writable) for is_unlogged, is_writable in rows]
        return found

    for name, is_unlogged, is_writable in store.connections.use(_DOING, ask, effect=False):
        if is_unlogged and not name.rstrip('"').endswith("_readers"):
            text = f"this table is unlogged: a crash empties it; ALTER TABLE {name} SET LOGGED prevents that"
            yield Finding(Severity.ERROR, name, text)
        if not is_writable:
            text = f"this user may not write it; GRANT SELECT, INSERT, UPDATE, DELETE ON {name} lets it"
            yield Finding(Severity.ERROR, name, text)
