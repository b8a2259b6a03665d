"""The spool: one metadata and one data backend as one store of messages.

What a crash may leave between the two is decided by the order of their writes: a payload is written before its record
and deleted after it, so there's never a record without its payload; one without a record is swept by `reconcile()`.
"""

from retryspool.spool.enqueue import EnqueueTransaction
from retryspool.spool.headers import ENCODING_HEADER, OWN_HEADERS, SEALED_HEADER, own_headers, user_headers
from retryspool.spool.integrity import damage_of
from retryspool.spool.reconcile import DEFAULT_GRACE, Discrepancy, DiscrepancyKind
from retryspool.spool.spool import Spool
from retryspool.spool.stages import Stages
from retryspool.spool.writer import PayloadWriter

__all__ = [
    "DEFAULT_GRACE",
    "ENCODING_HEADER",
    "OWN_HEADERS",
    "SEALED_HEADER",
    "Discrepancy",
    "DiscrepancyKind",
    "EnqueueTransaction",
    "PayloadWriter",
    "Spool",
    "Stages",
    "damage_of",
    "own_headers",
    "user_headers",
]
