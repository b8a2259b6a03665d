"""All that is asked of the server in everyday work: each a single statement, and so atomic without a transaction.

A *generation* is one write of a payload that didn't fit into its row: a UUID, and chunks under it that are never
changed. It is either that of a row in the payloads' table, or listed in the table of loose generations: written to, or
dropped, to be removed when nobody reads it any more. It goes from one to the other in one step.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import LiteralString, Self

from psycopg import sql
from psycopg.abc import AdaptContext

from retryspool_pg_data.table import Table

__all__ = ["REMOVED_AT_ONCE", "Statements"]

REMOVED_AT_ONCE = 64
"""How many chunks one statement removes."""

_REPLACE: LiteralString = """
    ON CONFLICT (message_id) DO UPDATE SET data = EXCLUDED.data, size = EXCLUDED.size, updated = now(),
        generation = EXCLUDED.generation, replaced = payload.generation"""
_KEEP: LiteralString = "ON CONFLICT (message_id) DO NOTHING"

_DROP: LiteralString = """
    INSERT INTO {loose} (generation, message_id, dropped) SELECT {what}, message_id, true FROM {source}
    WHERE {what} IS NOT NULL
    ON CONFLICT (generation) DO UPDATE SET dropped = true"""

_PUT: LiteralString = """
    WITH put AS (
        INSERT INTO {data} AS payload (message_id, data, size) VALUES (%s, %b, %s) {on_conflict}
        RETURNING message_id, replaced
    ), dropped AS ({drop_replaced})
    SELECT replaced FROM put"""
_PUT_MANY: LiteralString = """
    WITH put AS (
        INSERT INTO {data} AS payload (message_id, data, size)
        SELECT message_id, data, octet_length(data) FROM unnest(%b::text[], %b::bytea[]) AS given (message_id, data)
        ORDER BY message_id {on_conflict}
        RETURNING message_id, replaced
    ), dropped AS ({drop_replaced})
    SELECT message_id, replaced FROM put"""
_PUBLISH: LiteralString = """
    WITH written AS (
        SELECT generation FROM {loose} WHERE generation = %s AND NOT dropped FOR UPDATE
    ), put AS (
        INSERT INTO {data} AS payload (message_id, data, size, generation)
        SELECT %s, ''::bytea, %s, generation FROM written {on_conflict}
        RETURNING message_id, generation, replaced
    ), taken AS (
        DELETE FROM {loose} USING put WHERE {loose}.generation = put.generation
    ), dropped AS ({drop_replaced})
    SELECT put.generation, put.replaced FROM written LEFT JOIN put ON true"""
_HASTY: LiteralString = "set_config('synchronous_commit', 'off', true)"
"""Has this statement alone not wait for the disk: a note of who reads means nothing after a crash of the server."""
_READ_BY: LiteralString = "EXISTS (SELECT FROM {readers} AS r WHERE r.generation = {whose} AND r.expires > now())"


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements, with the tables' names in them. What follows each is its parameters, and the rows it answers."""

    put: bytes
    """message_id, data, size: replaced; no row if `put_if_absent` found one."""
    put_if_absent: bytes
    put_many: bytes
    """message_ids, payloads: message_id, replaced."""
    put_many_if_absent: bytes
    begin: bytes
    """generation, message_id, data: writes chunk 0."""
    append: bytes
    """generation, number, data: number; no row if the generation was dropped."""
    publish: bytes
    """generation, message_id, size: generation, replaced; no row if it was dropped, NULL if it's not put if absent."""
    publish_if_absent: bytes
    get: bytes
    """message_id: data, size, generation."""
    get_small: bytes
    """message_ids, max_bytes: message_id, data, size, generation."""
    hold: bytes
    """message_id, reader, lease: generation, size, and what is of no use; no row if it has no generation."""
    chunk: bytes
    """generation, number: data."""
    delete: bytes
    """message_ids: generation."""
    list: bytes
    """after which message_id, limit: message_id, size, updated."""
    renew_readers: bytes
    """lease, readers: reader."""
    renew_writers: bytes
    """generations."""
    let_go: bytes
    """reader."""
    forget_readers: bytes
    drop: bytes
    """generation, before: generation."""
    remove_chunks: bytes
    """generation, twice: number."""
    remove: bytes
    """generation."""
    list_loose: bytes
    """before, after which generation, limit: generation, message_id, touched, size."""
    list_broken: bytes
    """limit: message_id, size, found."""

    @classmethod
    def of(cls, table: Table, context: AdaptContext) -> Self:
        """Return those of a table."""
        names = {
            "data": table.beside(""),
            "chunks": table.beside("_chunks"),
            "loose": table.beside("_loose"),
            "readers": table.beside("_readers"),
            "at_once": sql.Literal(REMOVED_AT_ONCE),
        }

        def fill(text: LiteralString, **parts: sql.Composable) -> sql.Composed:
            return sql.SQL(text).format(**names, **parts)

        def read_by(whose: LiteralString) -> sql.Composed:
            return fill(_READ_BY, whose=sql.SQL(whose))

        drop_replaced = fill(_DROP, what=sql.SQL("replaced"), source=sql.SQL("put"))
        drop_gone = fill(_DROP, what=sql.SQL("generation"), source=sql.SQL("gone"))
        writes = {"drop_replaced": drop_replaced}
        replacing, keeping = {"on_conflict": sql.SQL(_REPLACE)}, {"on_conflict": sql.SQL(_KEEP)}
        made = {
            "put": fill(_PUT, **writes, **replacing),
            "put_if_absent": fill(_PUT, **writes, **keeping),
            "put_many": fill(_PUT_MANY, **writes, **replacing),
            "put_many_if_absent": fill(_PUT_MANY, **writes, **keeping),
            "publish": fill(_PUBLISH, **writes, **replacing),
            "publish_if_absent": fill(_PUBLISH, **writes, **keeping),
            "begin": fill("""
                WITH begun AS (INSERT INTO {loose} (generation, message_id) VALUES (%s, %s) RETURNING generation)
                INSERT INTO {chunks} (generation, number, data) SELECT generation, 0, %b FROM begun"""),
            "append": fill("""
                WITH written AS (
                    UPDATE {loose} SET touched = now() WHERE generation = %s AND NOT dropped RETURNING generation
                )
                INSERT INTO {chunks} (generation, number, data) SELECT generation, %s, %b FROM written
                RETURNING number"""),
            "get": fill("SELECT data, size, generation FROM {data} WHERE message_id = %s"),
            "get_small": fill("""
                SELECT message_id, data, size, generation FROM {data}
                WHERE message_id = ANY(%b::text[]) AND size <= %s"""),
            "hold": fill(
                """
                WITH found AS (
                    SELECT generation, size FROM {data}
                    WHERE message_id = %s AND generation IS NOT NULL AND size > 0 AND octet_length(data) = 0
                    FOR SHARE
                ), held AS (
                    INSERT INTO {readers} (generation, reader, expires)
                    SELECT generation, %s, now() + %s FROM found
                )
                SELECT generation, size, {hasty} FROM found""",
                hasty=sql.SQL(_HASTY),
            ),
            "chunk": fill("SELECT data FROM {chunks} WHERE generation = %s AND number = %s"),
            "delete": fill(
                """
                WITH gone AS (
                    DELETE FROM {data} WHERE message_id = ANY(%b::text[]) RETURNING message_id, generation
                )
                {drop_gone} RETURNING generation""",
                drop_gone=drop_gone,
            ),
            "list": fill("""
                SELECT message_id, size, updated FROM {data} WHERE message_id > %s ORDER BY message_id LIMIT %s"""),
            "renew_readers": fill("UPDATE {readers} SET expires = now() + %s WHERE reader = ANY(%b) RETURNING reader"),
            "renew_writers": fill("UPDATE {loose} SET touched = now() WHERE generation = ANY(%b) AND NOT dropped"),
            "let_go": fill("DELETE FROM {readers} WHERE reader = %s RETURNING {hasty}", hasty=sql.SQL(_HASTY)),
            "forget_readers": fill("DELETE FROM {readers} WHERE expires < now()"),
            "drop": fill("""
                UPDATE {loose} SET dropped = true WHERE generation = %s AND touched < %s RETURNING generation"""),
            "remove_chunks": fill(
                """
                DELETE FROM {chunks} WHERE generation = %s AND number IN (
                    SELECT number FROM {chunks} AS c JOIN {loose} AS l USING (generation)
                    WHERE c.generation = %s AND l.dropped AND NOT {read} ORDER BY number LIMIT {at_once}
                ) RETURNING number""",
                read=read_by("l.generation"),
            ),
            "remove": fill("""
                DELETE FROM {loose} AS l WHERE generation = %s AND dropped
                AND NOT EXISTS (SELECT FROM {chunks} AS c WHERE c.generation = l.generation)"""),
            "list_loose": fill(
                """
                SELECT generation, message_id, touched,
                    (SELECT coalesce(sum(octet_length(c.data)), 0)::bigint FROM {chunks} AS c
                     WHERE c.generation = l.generation)
                FROM {loose} AS l WHERE touched < %s AND generation > %s AND NOT {read}
                ORDER BY generation LIMIT %s""",
                read=read_by("l.generation"),
            ),
            "list_broken": fill("""
                SELECT message_id, size, found FROM (
                    SELECT message_id, size, CASE
                        WHEN generation IS NULL OR size = 0 OR octet_length(data) > 0 THEN octet_length(data)
                        ELSE (SELECT coalesce(sum(octet_length(c.data)), 0)::bigint FROM {chunks} AS c
                              WHERE c.generation = payload.generation)
                        END AS found
                    FROM {data} AS payload
                ) AS payloads WHERE found <> size LIMIT %s"""),
        }
        return cls(**{field.name: made[field.name].as_bytes(context) for field in fields(cls)})
