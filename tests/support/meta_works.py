"""What can be done with a few records, one thing each: for tests that cut it off at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from retryspool.errors import StorageError
from retryspool.meta import Delete, MetaBackend, Move, Store, Update
from retryspool.model import MessageMetadata, State
from retryspool_fs_meta import FsMetaFactory

LEASE = timedelta(hours=1)
TEXT = "x" * 3000  # more than one sector, and less than one page


def prepare(backend: MetaBackend) -> None:
    """Store a message in each state: `active` under a lease, `renewed` under one that was renewed."""
    for name in ("active", "renewed"):
        backend.store_meta(name, MessageMetadata(name, priority=1))
    claimed = {each.id: each for each in backend.claim([State.INCOMING], limit=2, lease=LEASE, owner="before")}
    backend.renew([claimed["renewed"]], lease=LEASE)
    for state in State:
        if state is not State.ACTIVE:
            backend.store_meta(state.label, MessageMetadata(state.label, state, last_error=TEXT, headers={"a": "b"}))


def _store(backend: MetaBackend) -> None:
    backend.store_meta("new", MessageMetadata("new", last_error=TEXT))


def _update(backend: MetaBackend) -> None:
    backend.update_meta("hold", replace(backend.get_meta("hold"), last_error="y" * 5000))


def _update_to_another_state(backend: MetaBackend) -> None:
    claimed = backend.get_meta("active")
    backend.update_meta(
        "active", replace(claimed, state=State.DEFERRED, attempts=1, lease_owner=""), if_version=claimed.version
    )


def _update_a_renewed_one(backend: MetaBackend) -> None:
    claimed = backend.get_meta("renewed")
    backend.update_meta("renewed", replace(claimed, last_error="still at it"), if_version=claimed.version)


def _move(backend: MetaBackend) -> None:
    backend.move_to_state("deferred", State.DEFERRED, State.INCOMING)


def _delete(backend: MetaBackend) -> None:
    backend.delete_meta("archived")


def _delete_a_claimed_one(backend: MetaBackend) -> None:
    backend.delete_meta("renewed", if_version=backend.get_meta("renewed").version)


def _claim(backend: MetaBackend) -> None:
    assert backend.claim([State.BOUNCE, State.INCOMING, State.DEFERRED], limit=5, lease=LEASE, owner="w")


def _renew(backend: MetaBackend) -> None:
    results = backend.renew([backend.get_meta("active"), backend.get_meta("renewed")], lease=LEASE)
    _raise_errors(results)


def _apply(backend: MetaBackend) -> None:
    _raise_errors(
        backend.apply(
            [
                Store(MessageMetadata("new")),
                Delete("renewed", backend.get_meta("renewed").version),
                Delete("archived"),
                Update(replace(backend.get_meta("active"), state=State.DEFERRED)),
                Move("hold", State.HOLD, State.INCOMING),
            ]
        )
    )


def _apply_deletions(backend: MetaBackend) -> None:
    _raise_errors(backend.apply([Delete(name) for name in ("active", "renewed", "archived", "bounce")]))


def _raise_errors(results: Sequence[MessageMetadata | StorageError | None]) -> None:
    for result in results:
        if isinstance(result, StorageError):
            raise result


WORKS: dict[str, Callable[[MetaBackend], None]] = {
    "store": _store,
    "update": _update,
    "update to another state": _update_to_another_state,
    "update a renewed one": _update_a_renewed_one,
    "move": _move,
    "delete": _delete,
    "delete a claimed one": _delete_a_claimed_one,
    "claim": _claim,
    "renew": _renew,
    "apply": _apply,
    "apply deletions": _apply_deletions,
}
"""Each changes some of the messages of `prepare`, or raises."""


def work(base: str, sync: str, name: str, begin: Callable[[], None]) -> None:
    """Do one of `WORKS` on the spool in a folder, after calling `begin`."""
    backend = FsMetaFactory(base, sync=sync).create()
    backend.list_messages(State.INCOMING)
    begin()
    WORKS[name](backend)


def open_and_store(base: str, sync: str, begin: Callable[[], None]) -> None:
    """Open the spool in a folder, which may not be there yet, store a message and close it, after calling `begin`."""
    begin()
    with FsMetaFactory(base, sync=sync).create() as backend:
        backend.list_messages(State.INCOMING)
        backend.store_meta("new", MessageMetadata("new", last_error=TEXT))
