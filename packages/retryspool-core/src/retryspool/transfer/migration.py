"""Moving all messages from one store to another, while workers go on with both.

Each message goes through four writes, any of which may be the last of a run that is killed:

1. at the target, it's stored, payload first, marked as arriving: nobody delivers it;
2. at the source, its record is marked as leaving, if it still has the version that was copied: from now on nobody
   delivers it there. This write decides whose the message is, and a worker that has claimed it meanwhile wins;
3. at the target, the mark is removed: from now on it's delivered there;
4. at the source, it's deleted.

So a message is never delivered by both, nor lost. What a run that was cut off left is finished by the next one: a
message that is leaving arrives; a copy whose original isn't leaving is taken over, and removed only when the source is
done with that. (One that was removed and made again would have the version of the first: a run that was slow could take
it for its own.) Several may run at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event

from retryspool.errors import (
    DataNotFoundError,
    MessageExistsError,
    MessageNotFoundError,
    QueueError,
    StateConflictError,
    StorageError,
)
from retryspool.meta import Delete, Update
from retryspool.model import MessageMetadata, State, utc_now
from retryspool.queue.bulk import at_rest, batched, reason_of
from retryspool.queue.filtering import Filter
from retryspool.spool import Spool
from retryspool.transfer.copying import Copied, Copier
from retryspool.transfer.marks import ARRIVING, LEAVING, Mark, mark_of, marked, store_id, unmarked

__all__ = ["Migration", "Moved"]

_ORDER = (State.ARCHIVED, State.HOLD, State.BOUNCE, State.DEFERRED, State.INCOMING, State.ACTIVE)
_LISTEN_S = 0.5


@dataclass(slots=True)
class Moved:
    """What a migration has done so far."""

    messages: int = 0
    """Moved; in a dry run: that would be."""
    size: int = 0
    """Of their payloads, in bytes."""
    finished: int = 0
    """Whose move an earlier run had begun, and that was finished."""
    begun_anew: int = 0
    """Whose copy another run had left at the target, and that was taken over."""
    busy: int = 0
    """That a worker at the source had when they were looked at last."""
    failed: Counter[str] = field(default_factory=Counter[str])
    """By the error; these are at the source, as they were."""


class Migration:
    """Moves messages from one store to another.

    :param where: only those that it means
    :param batch_size: so many are on their way at once
    """

    def __init__(self, source: Spool, target: Spool, where: Filter | None = None, *, batch_size: int = 100) -> None:
        self._source = source
        self._target = target
        self._where = where or Filter()
        self._batch_size = batch_size
        self._copier = Copier(source, target)
        self.moved = Moved()

    def run(
        self,
        progress: Callable[[Moved], object] = lambda _: None,
        *,
        follow: bool = False,
        stop: Event | None = None,
    ) -> Moved:
        """Move what is there, until a look at the whole source finds nothing more that could be moved.

        :param follow: go on with what comes later, until `stop` is set
        :raises QueueError: messages of the source are on their way to another store; that migration must be finished
        """
        stop = stop or Event()
        from_here, to_there = store_id(self._source.meta), store_id(self._target.meta)
        if from_here and from_here == to_there:
            raise QueueError("source and target are the same store")
        self._finish(to_there)
        while not stop.is_set():
            before = self.moved.messages
            if self.moved.failed:
                self._finish(to_there)
            self.moved.failed.clear()
            self.moved.busy = 0
            for batch in batched(self._movable(), self._batch_size):
                if stop.is_set():
                    break
                self._move(batch, from_here, to_there)
                progress(self.moved)
            if follow:
                self._wait(stop)
            elif self.moved.messages == before:
                break
        self._sweep(from_here)
        return self.moved

    def count(self) -> Moved:
        """Count what would be moved."""
        for record in self._movable():
            self.moved.messages += 1
            self.moved.size += record.size
        return self.moved

    def _wait(self, stop: Event) -> None:
        if not self._source.meta.wait_for_change(_LISTEN_S):
            stop.wait(_LISTEN_S)

    def _movable(self) -> Iterator[MessageMetadata]:
        for state in _ORDER:
            if self._where.states and state not in {*self._where.states, State.ACTIVE}:
                continue
            for record in self._source.meta.iter_messages(state, self._batch_size):
                resting = at_rest(record, utc_now())
                if resting is None:
                    self.moved.busy += mark_of(record, LEAVING) is None and mark_of(record, ARRIVING) is None
                elif self._where.matches(self._source.shown(resting)):
                    yield record

    # -- the four writes -----------------------------------------------------------------------------------------------

    def _move(self, batch: Sequence[MessageMetadata], from_here: str, to_there: str) -> None:
        copied: list[Copied] = []
        for record, result in self._copier.copy(batch, lambda record: self._arriving(record, from_here)):
            if isinstance(result, MessageExistsError):
                result = self._taken_over(record, from_here, result)  # noqa: PLW2901 -- in its place
            if isinstance(result, Copied):
                copied.append(result)
            elif not self._is_gone(record, result):
                self._fail(record, result)
        left = self._leave(copied, to_there)
        self._arrive(
            [(each.arrived, Mark(_state(each.record), from_here)) for each in copied if each.record.id in left]
        )
        self._source.apply([Delete(record.id, if_version=record.version) for record in left.values()])
        for each in copied:
            if each.record.id in left:
                self.moved.messages += 1
                self.moved.size += each.record.size

    @staticmethod
    def _arriving(record: MessageMetadata, from_here: str) -> MessageMetadata:
        return marked(record, ARRIVING, Mark(_state(record), from_here))

    def _is_gone(self, record: MessageMetadata, error: StorageError) -> bool:
        """Tell whether a message couldn't be copied since it's done with by now, or has changed."""
        if isinstance(error, (MessageNotFoundError, StateConflictError)):
            return True
        if not isinstance(error, DataNotFoundError):
            return False
        try:
            self._source.meta.get_meta(record.id)
        except MessageNotFoundError:
            return True
        return False

    def _leave(self, copied: Sequence[Copied], to_there: str) -> dict[str, MessageMetadata]:
        """Mark messages at the source as leaving; returns those that are the target's now."""
        if not copied:
            return {}
        writes = [
            Update(marked(each.record, LEAVING, Mark(_state(each.record), to_there)), if_version=each.record.version)
            for each in copied
        ]
        left: dict[str, MessageMetadata] = {}
        for each, result in zip(copied, self._source.meta.apply(writes), strict=True):
            if isinstance(result, MessageMetadata):
                left[each.record.id] = result
            elif not isinstance(result, (StateConflictError, MessageNotFoundError)):
                self._fail(each.record, result)  # nobody knows whether it had its effect: the next run finds out
        return left

    def _arrive(self, arrived: Sequence[tuple[MessageMetadata, Mark]]) -> None:
        """Let messages be delivered at the target whose originals are marked as leaving.

        One that isn't there any more, or isn't marked, has arrived by another run. One that has another version was
        taken over by another run, which has copied the same.

        :raises StorageError: the target fails; the next run goes on from here
        """
        while arrived:
            writes = [Update(unmarked(record, ARRIVING, mark), if_version=record.version) for record, mark in arrived]
            results = self._target.meta.apply(writes)
            again: list[tuple[MessageMetadata, Mark]] = []
            for (record, mark), result in zip(arrived, results, strict=True):
                if isinstance(result, StateConflictError):
                    with suppress(MessageNotFoundError):
                        current = self._target.meta.get_meta(record.id)
                        if mark_of(current, ARRIVING) is not None:
                            again.append((current, mark))
                elif isinstance(result, StorageError) and not isinstance(result, MessageNotFoundError):
                    raise result
            arrived = again

    def _taken_over(self, record: MessageMetadata, from_here: str, exists: MessageExistsError) -> Copied | StorageError:
        """Take over the copy that another run has left; returns the error if what is there is no such copy."""
        try:
            there = self._target.meta.get_meta(record.id)
            mark = mark_of(there, ARRIVING)
            if mark is None or mark.store != from_here or not self._copier.same_payload(record, there):
                return exists
            # After the look at the target: had another run copied a later version since, this write would fail.
            if self._source.meta.get_meta(record.id).version != record.version:
                return MessageNotFoundError(record.id)
            wanted = self._arriving(self._source.opened(record), from_here)
            taken = self._target.meta.update_meta(
                record.id, self._copier.renewed(there, wanted), if_version=there.version
            )
        except StorageError as error:
            return error
        self.moved.begun_anew += 1
        return Copied(record, taken)

    def _fail(self, record: MessageMetadata, error: object) -> None:
        self.moved.failed[reason_of(error, record.id)] += 1

    # -- what an earlier run left --------------------------------------------------------------------------------------

    def _finish(self, to_there: str) -> None:
        for record in self._source.meta.iter_messages(State.ACTIVE, self._batch_size):
            mark = mark_of(record, LEAVING)
            if mark is not None:
                if mark.store != to_there:
                    msg = (
                        f"message {record.id!r} is on its way from this source to another store than this target; "
                        "finish that migration first"
                    )
                    raise QueueError(msg)
                self._finish_leaving(record)

    def _finish_leaving(self, record: MessageMetadata) -> None:
        try:
            arrived = self._target.meta.get_meta(record.id)
        except MessageNotFoundError:  # it's done with there
            pass
        else:
            mark = mark_of(arrived, ARRIVING)
            if mark is not None:
                self._arrive([(arrived, mark)])
        self._source.apply([Delete(record.id, if_version=record.version)])
        self.moved.finished += 1

    def _sweep(self, from_here: str) -> None:
        """Remove copies at the target that the source is done with."""
        for arrived in self._target.meta.iter_messages(State.ACTIVE, self._batch_size):
            mark = mark_of(arrived, ARRIVING)
            if mark is None or mark.store != from_here:
                continue
            try:
                self._source.meta.get_meta(arrived.id)
            except MessageNotFoundError:
                self._target.apply([Delete(arrived.id, if_version=arrived.version)])


def _state(record: MessageMetadata) -> State:
    """Return the state that a message has, or had before its worker died."""
    return record.state if record.state is not State.ACTIVE else record.claimed_from or State.INCOMING
