"""The tables' names: those of the Go system's table and its indexes, and of what we put beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from psycopg import sql
from psycopg.abc import AdaptContext

from retryspool.errors import InvalidOptionError
from retryspool.namespaces import validate_namespace

__all__ = ["MAX_NAME_BYTES", "Identifier", "Table"]

MAX_NAME_BYTES = 63 - len("idx__created")
"""PostgreSQL cuts names off at 63 bytes, so that two may become one. The longest of ours is that of an index."""
_MAX_SCHEMA_BYTES = 63


class Identifier(sql.Identifier):
    """A quoted name that may hold a per cent sign, which psycopg would take for the beginning of a placeholder."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """Return it quoted, to stand in a statement with parameters."""
        return super().as_bytes(context).replace(b"%", b"%%")


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name, and a schema's if it's not to be found by `search_path`."""

    name: str
    schema: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take apart `table` or `schema.table`. All characters are allowed: names are quoted wherever they stand.

        :raises InvalidOptionError: a part is empty, too long, or has a NUL
        """
        schema, dot, name = text.rpartition(".")
        for what, part, most in (("table", name, MAX_NAME_BYTES), ("schema", schema, _MAX_SCHEMA_BYTES)):
            if (not part and (dot or what == "table")) or "\0" in part or _size(part) > most:
                msg = f"table is {text!r}: its {what}'s name must have 1 to {most} bytes in UTF-8, and no NUL"
                raise InvalidOptionError(msg)
        return cls(name, schema)

    def in_namespace(self, namespace: str) -> Self:
        """Return the table of a namespace. It ends in `$`, and so is never one that stands beside another's."""
        return type(self).parse(f"{self}_{validate_namespace(namespace)}$")

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def beside(self, suffix: str) -> Identifier:
        """Return the name, in the same schema, with something added; the table's own without."""
        name = f"{self.name}{suffix}"
        return Identifier(self.schema, name) if self.schema else Identifier(name)

    def index(self, column: str) -> Identifier:
        """Return the name of an index of the Go system's. It stands without a schema where one is created."""
        return Identifier(f"idx_{self.name}_{column}")


def _size(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # a lone surrogate, which no database can have
        return MAX_NAME_BYTES * 2
