"""RetrySpool's message payloads in PostgreSQL."""

import logging as _logging

from retryspool_pg_data.backend import PgDataBackend
from retryspool_pg_data.connection import BoundedConnection
from retryspool_pg_data.factory import PgDataFactory

__all__ = ["BoundedConnection", "PgDataBackend", "PgDataFactory"]

_logging.getLogger(__name__).addHandler(_logging.NullHandler())  # silent until somebody wants to hear
# psycopg warns of each connection that is lost; whoever was to use it gets an error, and that tells more.
_logging.getLogger("psycopg").addHandler(_logging.NullHandler())
