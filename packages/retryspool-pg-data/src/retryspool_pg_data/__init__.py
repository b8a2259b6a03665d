"""RetrySpool's message payloads in PostgreSQL."""

import logging as _logging
import typing as _typing

from retryspool_pg_data.factory import PgDataFactory

__all__ = ["BoundedConnection", "PgDataFactory"]

_logging.getLogger(__name__).addHandler(_logging.NullHandler())  # silent until somebody wants to hear
# psycopg warns of each connection that is lost; whoever was to use it gets an error, and that tells more.
_logging.getLogger("psycopg").addHandler(_logging.NullHandler())

if _typing.TYPE_CHECKING:
    from retryspool_pg_data.connection import BoundedConnection
else:

    def __getattr__(name: str) -> object:
        """Import what needs psycopg when it's asked for: that takes a fifth of a second, and many only list us."""
        if name != "BoundedConnection":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from retryspool_pg_data.connection import BoundedConnection  # noqa: PLC0415 -- see above

        return BoundedConnection
