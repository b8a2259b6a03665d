"""The part of an asynchronous queue that operators use."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial

from retryspool.aio.inner import Inner
from retryspool.aio.threads import Threads
from retryspool.model import MessageMetadata
from retryspool.queue.bulk import Tally
from retryspool.queue.changes import Change
from retryspool.queue.filtering import Filter
from retryspool.queue.pausing import Pause, Paused

__all__ = ["Operated"]


class Operated(ABC):
    """What a `Queue` offers to those who look after it. Its methods are those of `retryspool.Queue`."""

    _threads: Threads

    @property
    @abstractmethod
    def sync(self) -> Inner:
        """The synchronous queue behind it, for what isn't asynchronous."""

    # -- by hand -------------------------------------------------------------------------------------------------------

    async def update_headers(
        self, message_id: str, changes: Mapping[str, str | None], *, force: bool = False
    ) -> MessageMetadata:
        return await self._threads.call(partial(self.sync.update_headers, message_id, changes, force=force))

    async def set_retry_policy(self, message_id: str, name: str, *, force: bool = False) -> MessageMetadata:
        return await self._threads.call(partial(self.sync.set_retry_policy, message_id, name, force=force))

    async def set_route(self, message_id: str, route: str, *, force: bool = False) -> MessageMetadata:
        return await self._threads.call(partial(self.sync.set_route, message_id, route, force=force))

    async def set_priority(self, message_id: str, priority: int, *, force: bool = False) -> MessageMetadata:
        return await self._threads.call(partial(self.sync.set_priority, message_id, priority, force=force))

    async def hold(self, message_id: str, *, force: bool = False) -> MessageMetadata:
        return await self._threads.call(partial(self.sync.hold, message_id, force=force))

    async def release(self, message_id: str) -> MessageMetadata:
        return await self._threads.call(partial(self.sync.release, message_id))

    async def retry(self, message_id: str, *, force: bool = False) -> MessageMetadata:
        return await self._threads.call(partial(self.sync.retry, message_id, force=force))

    async def bounce(self, message_id: str, reason: str = "", *, force: bool = False) -> MessageMetadata:
        return await self._threads.call(partial(self.sync.bounce, message_id, reason, force=force))

    async def requeue(self, message_id: str) -> MessageMetadata:
        return await self._threads.call(partial(self.sync.requeue, message_id))

    async def delete(self, message_id: str, *, force: bool = False) -> None:
        await self._threads.call(partial(self.sync.delete, message_id, force=force))

    # -- many at once --------------------------------------------------------------------------------------------------

    def select(self, where: Filter) -> AsyncIterator[MessageMetadata]:
        return self._threads.iterate(lambda: self.sync.select(where))

    async def change_one(self, message_id: str, change: Change, *, force: bool = False) -> MessageMetadata | None:
        return await self._threads.call(partial(self.sync.change_one, message_id, change, force=force))

    async def change_all(
        self,
        change: Change,
        where: Filter,
        *,
        dry_run: bool = False,
        per_second: float | None = None,
        progress: Callable[[Tally], object] | None = None,
        before: Callable[[Sequence[MessageMetadata]], Iterable[MessageMetadata]] | None = None,
    ) -> Tally:
        """As `retryspool.Queue.change_all`; `progress` and `before` are called in a thread.

        A cancellation ends it after the batch that is being changed.
        """
        cancelled = threading.Event()

        def after_batch(tally: Tally) -> None:
            if cancelled.is_set():
                raise _CutOffError
            if progress is not None:
                progress(tally)

        change_all = partial(self.sync.change_all, change, where, dry_run=dry_run, per_second=per_second)
        return await self._threads.call(
            partial(change_all, progress=after_batch, before=before), interrupt=cancelled.set
        )

    # -- pausing and pruning -------------------------------------------------------------------------------------------

    async def pause(self, route: str | None = None, *, by: str = "", reason: str = "") -> Pause:
        return await self._threads.call(partial(self.sync.pause, route, by=by, reason=reason))

    async def resume(self, route: str | None = None) -> bool:
        return await self._threads.call(partial(self.sync.resume, route))

    async def resume_all(self) -> None:
        await self._threads.call(self.sync.resume_all)

    async def paused(self) -> Paused:
        return await self._threads.call(self.sync.paused)

    async def prune(self) -> int:
        return await self._threads.call(self.sync.prune)


class _CutOffError(Exception):
    """Ends a change in the middle; nobody sees it."""
