"""The complete backends in memory: for tests of what is built on RetrySpool, and to read what the contract asks for.

.. code-block:: python

    spool = Spool(MemoryMeta(), MemoryData())       # gone when nobody holds it any more

A factory holds its store: what `create()` returns can be closed and created anew, as files can. Factories of the same
`store` name, and URLs such as `memory:orders`, open the same one for as long as the process lives.
"""

from __future__ import annotations

import heapq
import io
import threading
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Buffer, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, ClassVar, Self

from retryspool import records
from retryspool.data import DataBackend, DataCapabilities, DataFactory, DataInfo, DataWriter
from retryspool.deadline import check_deadline, remaining
from retryspool.errors import (
    BackendClosedError,
    DataExistsError,
    DataNotFoundError,
    InvalidUrlError,
    MessageExistsError,
    MessageNotFoundError,
)
from retryspool.ids import validate_message_id
from retryspool.meta import ListOptions, ListResult, MetaBackend, MetaCapabilities, MetaFactory, check_claim
from retryspool.model import MessageMetadata, State, utc_now
from retryspool.urls import parse_url, redact

__all__ = ["MemoryData", "MemoryDataFactory", "MemoryMeta", "MemoryMetaFactory"]
