"""Messages on their way into a spool, out of it, and from one to another."""

from retryspool.transfer.migration import Migration, Moved

__all__ = ["Migration", "Moved"]
