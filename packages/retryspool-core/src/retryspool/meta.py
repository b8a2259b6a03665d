"""The interface of metadata backends: where the records of messages live.

The abstract methods are the contract, and all that a backend must write; the others have defaults, correct on top of
them, which a backend overrides for speed. `retryspool.records` has the rules by which each write changes a record.
"""

from __future__ import annotations

import enum
import heapq
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import ClassVar, Protocol, Self, assert_never, runtime_checkable

from retryspool import records
from retryspool.deadline import check_deadline, remaining
from retryspool.errors import (
    CorruptRecordError,
    InvalidMessageIdError,
    InvalidOptionError,
    MessageNotFoundError,
    NotSupportedError,
    StateConflictError,
    StorageError,
    raise_if_refused,
)
from retryspool.ids import validate_message_id
from retryspool.model import NOT_DURABLE, Finding, MessageMetadata, State, utc_now

__all__ = [
    "Delete",
    "JoinsTransactions",
    "ListOptions",
    "ListResult",
    "MetaBackend",
    "MetaCapabilities",
    "MetaFactory",
    "Move",
    "NoteKeeper",
    "SortBy",
    "StateCounter",
    "Store",
    "Update",
    "Write",
    "WriteResult",
    "check_claim",
    "check_note",
    "check_writes",
    "keeps_contract",
]

_MAX_NOTE_BYTES = 64 * 1024
_POLL_S = 0.2
"""How long the default `wait_for_change` waits: nothing tells it of changes, so there may always be some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaCapabilities:
    """What a metadata backend promises beyond the contract's core."""

    processes: bool
    """Several processes may open the same store."""
    durable: bool
    """What a call has done survives a power cut once it returns, unless the user chose a faster mode."""
    server_clock: bool
    """`claim` goes by the store's own clock; otherwise by this machine's."""
    checksums: bool = False
    """A record that was altered in the store, and can still be read, is found out; otherwise that is the store's own
    business."""
    contract: str = "1.0"
    """The version of the contract (docs/contract.md) that the backend was written for. See `keeps_contract`."""


class SortBy(enum.Enum):
    """What a listing is sorted by; ties by id."""

    CREATED = "created"
    UPDATED = "updated"
    PRIORITY = "priority"
    ATTEMPTS = "attempts"
    NEXT_RETRY = "next_retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    """Which part of a state's messages to list, in which order.

    :raises InvalidOptionError: `limit` or `offset` is below 0, or `since` has no time zone
    """

    limit: int = 100
    """How many ids at the most; 0 only counts."""
    offset: int = 0
    sort_by: SortBy = SortBy.CREATED
    descending: bool = False
    """The exact reverse, of ties too."""
    since: datetime | None = None
    """Only messages created or updated at this time or later."""

    def __post_init__(self) -> None:
        for name in ("limit", "offset"):
            if getattr(self, name) < 0:
                msg = f"{name} is {getattr(self, name)}; it must be at least 0"
                raise InvalidOptionError(msg)
        if self.since is not None and self.since.utcoffset() is None:
            msg = "since has no time zone; use an aware datetime, such as datetime.now(UTC)"
            raise InvalidOptionError(msg)


@dataclass(frozen=True, slots=True)
class ListResult:
    """One page of a listing."""

    message_ids: tuple[str, ...]
    total: int
    """How many messages match, on all pages."""
    has_more: bool
    """Whether there are more after this page."""


@dataclass(frozen=True, slots=True)
class Store:
    """Create a record; fails as `store_meta` does."""

    metadata: MessageMetadata


@dataclass(frozen=True, slots=True)
class Update:
    """Replace a record; fails as `update_meta` does."""

    metadata: MessageMetadata
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """Move a message; fails as `move_to_state` does."""

    message_id: str
    from_state: State
    to_state: State


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a record; fails as `delete_meta` does."""

    message_id: str
    if_version: int | None = None


Write = Store | Update | Move | Delete
"""One of a batch of writes for `apply`."""

WriteResult = MessageMetadata | StorageError | None
"""What became of one write: the record as stored, None for a deletion, or the error."""


class MetaBackend(ABC):
    """A store of records. Instances may be shared between threads.

    Every method raises, beside what it lists: `InvalidMessageIdError` before any I/O, `BackendClosedError` after
    `close()`, `DeadlineExceededError` when the time allowed is over, `BackendError` when the store fails. When a method
    returns, its effect survives `kill -9` and a power cut; that of `claim` and `renew` need survive the kill only.
    """

    capabilities: ClassVar[MetaCapabilities]

    @abstractmethod
    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        """Create a record, if and only if there's none of this id, in any state.

        :returns: the record as stored: version 1, `updated` now, `created` now if it was unset
        :raises MessageExistsError: there's one; it wasn't touched, and is durable
        :raises InvalidMetadataError: the record can't be stored, or its id isn't `message_id`
        """

    @abstractmethod
    def get_meta(self, message_id: str) -> MessageMetadata:
        """Return a record.

        :raises MessageNotFoundError: there's none in any state; never because it was on the move
        :raises CorruptRecordError: there's one that doesn't parse
        """

    @abstractmethod
    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        """Replace a record, its state included, in one step: no reader ever sees a mix, or two, or none.

        :param if_version: only if the stored record has this version
        :returns: the record as stored: its version raised by one, `updated` now, `created` kept if it was unset
        :raises MessageNotFoundError: there's no such message; it isn't created
        :raises StateConflictError: the stored record has another version
        :raises InvalidMetadataError: the record can't be stored, or its id isn't `message_id`
        """

    @abstractmethod
    def delete_meta(self, message_id: str, *, if_version: int | None = None) -> None:
        """Delete a record.

        :raises MessageNotFoundError: there's no such message
        :raises StateConflictError: the stored record has another version
        """

    @abstractmethod
    def list_messages(self, state: State, options: ListOptions = ListOptions()) -> ListResult:
        """List the ids of a state's messages, sorted, a page at a time."""

    @abstractmethod
    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:
        """Yield the records of a state, in no particular order, in constant memory.

        Each message that stays in the state meanwhile is yielded exactly once, whatever else is stored, moved or
        deleted; one that comes or goes may be. A record that doesn't parse isn't yielded: `check()` reports it.

        :param batch_size: how many records a backend may fetch ahead
        """

    @abstractmethod
    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        """Move a message, if and only if it's in `from_state`.

        Of any number of callers that race, in any number of processes, exactly one returns. With `from_state` the same
        as `to_state` nothing is written; that it returns says the message is there, durably, in this state.

        :returns: the record as stored, its `version` raised by one, without a lease
        :raises MessageNotFoundError: there's no such message in any state
        :raises StateConflictError: the message is in another state; its `found` says which
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of everything. May be called again; all other methods raise `BackendClosedError` from then on."""

    # -- with defaults -------------------------------------------------------------------------------------------------

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
        """Take up to `limit` due messages for one worker, which nobody else gets until the lease has expired.

        First come `ACTIVE` messages whose lease has expired and that were claimed from one of `sources` (or from
        nowhere known); then due ones (`next_retry` passed) from `sources` in their order, within each by priority, 1
        before 5, then the oldest due. All become `ACTIVE` with owner and lease, their `deliveries` raised.

        :param exclude_routes: routes whose messages are passed over
        :param oldest_first: within each source, and among expired leases, the oldest due comes first, whatever its
            priority: so that what is unimportant doesn't wait for ever. Asked only of who `keeps_contract` 1.1
        :param owner: unique to each start of a worker: 1 to 64 characters of `A-Z a-z 0-9 . _ = @ + : / -`
        :returns: the records as stored, in order; as many as are due, up to `limit`; none at all only if none was
        :raises InvalidOptionError: the limit is below 1, the lease isn't longer than 0, or the owner isn't one
        """
        check_claim(sources, limit=limit, lease=lease, owner=owner)
        excluded = frozenset(exclude_routes)
        rank: records.Rank = records.age_rank if oldest_first else records.claim_rank
        claimed: list[MessageMetadata] = []
        lost_a_race = True
        while lost_a_race and len(claimed) < limit:
            lost_a_race = False
            taken = {each.id for each in claimed}
            for candidate in self._claimable(sources, limit - len(claimed), excluded, taken, rank):
                record = records.claimed(candidate, owner=owner, lease=lease, now=utc_now())
                try:
                    claimed.append(self.update_meta(record.id, record, if_version=candidate.version))
                except (StateConflictError, MessageNotFoundError):
                    lost_a_race = True
        return claimed

    def _claimable(
        self,
        sources: Sequence[State],
        limit: int,
        excluded: frozenset[str],
        taken: Collection[str],
        rank: records.Rank,
    ) -> list[MessageMetadata]:
        now = utc_now()
        found: list[MessageMetadata] = []
        for state in (State.ACTIVE, *sources):
            due = (
                record
                for record in self.iter_messages(state)
                if records.is_claimable(record, now)
                and record.id not in taken  # in this very call, under a lease so short that it's over
                and record.route not in excluded
                and (state is not State.ACTIVE or record.claimed_from in {None, *sources})
            )
            found += heapq.nsmallest(limit - len(found), due, key=rank)
        return found

    def renew(self, claims: Sequence[MessageMetadata], *, lease: timedelta) -> list[MessageMetadata | StorageError]:
        """Extend the leases of claimed messages to `lease` from now.

        :param claims: the records as `claim` or the last `renew` returned them
        :returns: one result each: the record as stored, its version raised; `StateConflictError` or
            `MessageNotFoundError` where the message isn't this worker's any more
        """
        records.validate_lease(lease)
        for claim in claims:
            validate_message_id(claim.id)
        results: list[MessageMetadata | StorageError] = []
        for claim in claims:
            try:
                record = records.renewed(self.get_meta(claim.id), claim, lease=lease, now=utc_now())
                results.append(self.update_meta(record.id, record, if_version=claim.version))
            except StorageError as error:
                if not results:
                    raise_if_refused(error)
                results.append(error)
        return results

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        """Carry out a batch of writes, each as its single method would, faster than one by one.

        Each write stands for itself: one that fails doesn't stop the others, and a crash may leave some done. They take
        effect in order where they name the same message.

        :returns: one result each, in order; a failed one's `StorageError` is returned, not raised
        :raises InvalidInputError: one of them could never be carried out; none was
        """
        check_writes(writes)
        results: list[WriteResult] = []
        for write in writes:
            try:
                results.append(self._apply_one(write))
            except StorageError as error:
                if not results:
                    raise_if_refused(error)
                results.append(error)
        return results

    def _apply_one(self, write: Write) -> MessageMetadata | None:
        match write:
            case Store(metadata):
                return self.store_meta(metadata.id, metadata)
            case Update(metadata, if_version):
                return self.update_meta(metadata.id, metadata, if_version=if_version)
            case Move(message_id, from_state, to_state):
                return self.move_to_state(message_id, from_state, to_state)
            case Delete(message_id, if_version):
                self.delete_meta(message_id, if_version=if_version)
                return None
            case _:
                assert_never(write)

    def wait_for_change(self, timeout: float) -> bool:
        """Wait until there may be new work, for `timeout` seconds at the most.

        :returns: False if nothing has changed as far as the backend can tell; True is only ever a hint
        """
        check_deadline()
        self._see_that_it_is_open()
        left = remaining()
        threading.Event().wait(min(timeout, _POLL_S, _POLL_S if left is None else left))
        return True

    def check(self) -> Iterator[Finding]:
        """Yield what endangers messages: settings of the store, and records that can't be read."""
        self._see_that_it_is_open()
        if not self.capabilities.durable:
            yield NOT_DURABLE

    def _see_that_it_is_open(self) -> None:
        with suppress(MessageNotFoundError, CorruptRecordError):
            self.get_meta("0")  # any id: what refuses to look for it is closed, or out of time

    def versions(self) -> Mapping[str, str]:
        """Return the versions of what is at work, for reports: of `"backend"`, `"driver"`, `"server"`, those there are.

        Each is a name and a version, such as `"PostgreSQL 17.2"`.
        """
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def check_claim(sources: Sequence[State], *, limit: int, lease: timedelta, owner: str) -> None:
    """Check the arguments of `claim`, for backends that have their own.

    :raises InvalidOptionError: one of them is out of its range
    """
    if limit < 1:
        msg = f"limit is {limit}; it must be at least 1"
        raise InvalidOptionError(msg)
    if State.ACTIVE in sources:
        msg = "sources holds 'active': expired leases are always claimed, live ones never"
        raise InvalidOptionError(msg)
    records.validate_lease(lease)
    records.validate_owner(owner)


def check_writes(writes: Sequence[Write]) -> None:
    """Check the arguments of `apply`, for backends that have their own.

    :raises InvalidInputError: one of the writes could never be carried out, by its id or its record
    """
    for write in writes:
        match write:
            case Store(metadata) | Update(metadata):
                records.validate_metadata(metadata)
            case Move(message_id) | Delete(message_id):
                validate_message_id(message_id)
            case _:
                assert_never(write)


def check_note(name: str, text: str | None) -> None:
    """Check the arguments of `set_note`, for backends that keep notes.

    :raises InvalidOptionError: the name isn't one that a message id could be, or the text is longer than 64 KiB in
        UTF-8 or holds a NUL or a lone surrogate
    """
    try:
        validate_message_id(name)
    except InvalidMessageIdError as error:
        msg = f"a note's name must be such as a message id is: {error}"
        raise InvalidOptionError(msg) from None
    if text is None:
        return
    try:
        size = len(text.encode())
    except (AttributeError, UnicodeEncodeError):
        size = -1
    if not 0 <= size <= _MAX_NOTE_BYTES or "\0" in text:
        msg = f"the text of note {name!r} must be a str without NUL, in UTF-8 of up to {_MAX_NOTE_BYTES} bytes"
        raise InvalidOptionError(msg)


def keeps_contract(meta: MetaBackend, version: str) -> bool:
    """Tell whether a backend was written for this version of the contract, or a later one."""
    declared, wanted = ([int(part) for part in each.split(".")] for each in (meta.capabilities.contract, version))
    return declared >= wanted


@runtime_checkable
class NoteKeeper(Protocol):
    """Optional: a few short texts that belong to the store, shared by all who have it open: what is paused, and such.

    Notes are no messages: none of them is listed, counted, claimed, or found by an id. Both methods raise what all of a
    metadata backend's do.
    """

    def get_notes(self) -> Mapping[str, str]:
        """Return all notes, by name, in one read.

        One that can't be read, since something else has damaged it, isn't among them: `check()` names it.
        """
        ...

    def set_note(self, name: str, text: str | None) -> None:
        """Set a note, or remove it if `text` is None; of several callers the last one's stands, whole.

        When it returns, its effect survives `kill -9` and a power cut as that of `store_meta` does. What others wait
        for with `wait_for_change` has come: a note that changes ends that, as new work does.

        :param name: such as a message id is, and never mistaken for one
        :param text: up to 64 KiB in UTF-8; an empty one is a note, too
        :raises InvalidOptionError: name or text isn't one that every backend can store; see `check_note`
        """
        ...


@runtime_checkable
class JoinsTransactions(Protocol):
    """Optional: writes within a transaction of the caller's, where the records lie beside the caller's own data.

    So there's a message if and only if there's what it was sent for.
    """

    def joining(self, transaction: object) -> MetaBackend:
        """Return this store as the caller's transaction sees it, and changes it: single records, listings and batches.

        What is written there takes effect if and when the caller commits, and those who `wait_for_change` are told of
        it then. What is refused there leaves the transaction fit to go on, and as it was before. It's for as long as
        the transaction lasts, and for one thread at a time, where the driver lets another than the caller's use the
        connection at all; closing it closes nothing. It's a `JoinsTransactions` too.

        :param transaction: the driver's connection, which the caller commits or rolls back
        :raises NotSupportedError: it isn't one of this driver to this store's database, or commits each write by itself
        """
        ...

    def is_pending(self, message_id: str) -> bool:
        """Tell, without waiting, whether another transaction that is still open may have stored a record of this id.

        Until it has ended the payload of that id is its message's, though there's no record that others see.
        """
        ...


@runtime_checkable
class StateCounter(Protocol):
    """Optional: counts at a cost that doesn't grow with the queue."""

    def get_state_count(self, state: State) -> int:
        """Return how many messages are in the state."""
        ...

    def get_oldest_due(self, state: State) -> datetime | None:
        """Return the earliest time at which a message of the state is due or was; None without any.

        An `ACTIVE` one is due when its lease expires.
        """
        ...


class MetaFactory(ABC):
    """The settings of a metadata backend, and its maker. Subclasses are frozen dataclasses."""

    name: ClassVar[str]
    """What users look it up by, and the scheme of its URLs."""
    schemes: ClassVar[tuple[str, ...]] = ()
    """Further schemes of its URLs, in lower case, such as one for encrypted connections."""

    @abstractmethod
    def create(self) -> MetaBackend:
        """Open the store, and make it if it isn't there.

        :raises BackendError: it can't be opened
        """

    @classmethod
    @abstractmethod
    def from_url(cls, url: str) -> Self:
        """Take the settings from a URL.

        :raises InvalidUrlError: it doesn't parse, or has a setting that there isn't
        """

    def in_namespace(self, namespace: str) -> Self:
        """Return the factory of another store, at the same place and by the same settings, that shares nothing with it.

        Namespaces keep tenants, or the tests of a conformance run, apart: each is a store of its own, empty at first.

        :param namespace: 1 to 32 of `a-z 0-9 _`, the first no `_`; see `validate_namespace`
        :raises InvalidOptionError: it isn't
        :raises NotSupportedError: the backend knows no namespaces
        """
        msg = f"{type(self).__name__} knows no namespaces: it can't make {namespace!r} beside its store"
        raise NotSupportedError(msg)

    def destroy(self) -> None:
        """Remove the store and all that it holds, for good: for tenants that are gone, and for tests.

        Nobody may have it open. A store that isn't there is no error. The default deletes all records and notes, and
        leaves what else there may be; override it where there's more: a folder, a table, keys.
        """
        with self.create() as backend:
            if isinstance(backend, NoteKeeper):
                for name in backend.get_notes():
                    backend.set_note(name, None)
            for state in State:
                for record in backend.iter_messages(state):
                    with suppress(MessageNotFoundError):
                        backend.delete_meta(record.id)
