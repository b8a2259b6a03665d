"""What happens in the demo, and when."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from retryspool import Queue, State, StateConflictError
from retryspool_cli.demo.corpus import Item, make_files
from retryspool_cli.demo.ledger import Ledger, audit
from retryspool_cli.demo.receiver import SUBSCRIBER_HEADER, SUBSCRIBERS, Receiver
from retryspool_cli.demo.workers import WorkerProcess

__all__ = ["Scenario", "View"]

_A_SECOND = 40
"""How many messages are spooled a second."""
_HELD = 8
"""How many are held for a while."""
_PATIENCE_S = 20.0
"""How long to wait for the last message, before the ledger tells what is missing."""


@dataclass(slots=True)
class View:
    """What there is to see, for whoever shows it."""

    counts: dict[State, int] = field(default_factory=dict[State, int])
    accepted: int = 0
    answered: dict[int, int] = field(default_factory=dict[int, int])
    receiver_up: bool = True
    workers: list[WorkerProcess] = field(default_factory=list[WorkerProcess])
    events: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    """When, in seconds from the start, and what."""
    seconds: float = 0


class Scenario:
    """One run.

    :param folder: for the spool, the files, the logs
    :param show: called a few times a second, and at each event
    """

    def __init__(self, folder: Path, messages: int, show: Callable[[View], None]) -> None:
        self._folder = folder
        self._messages = messages
        self._show = show
        self._began = time.monotonic()
        self._view = View()
        self._accepted: dict[str, str] = {}
        self._held: list[str] = []
        self._in_a_handler: set[str] = set()
        self._log = folder / "receiver.log"
        self._receiver = Receiver(self._log)

    def run(self) -> Ledger:
        """Play it to the end, and audit it."""
        items = list(make_files(self._folder / "files", self._messages))
        self._receiver.up()
        spool = self._folder / "spool"
        with Queue.open(spool) as queue:
            self._view.workers = [self._worker(spool, name) for name in ("worker 1", "worker 2")]
            try:
                self._wait_until(lambda: all(worker.is_running for worker in self._view.workers), queue)
                self._event(f"{self._messages} files to spool; the receiver is up, two workers have started")
                self._play(queue, items)
                self._finish(queue)
                self._look(queue)
            finally:
                for worker in self._view.workers:
                    worker.stop(10)
                self._receiver.close()
            return audit(queue, self._accepted, self._log, self._in_a_handler)

    def _worker(self, spool: Path, name: str) -> WorkerProcess:
        arguments = (
            *("--spool", str(spool), "work", "--webhook", self._receiver.url),
            *("--concurrency", "4", "--lease", "3s", "--grace", "5s", "--timeout", "5s", "--on-success", "archive"),
            *("--retry-policy", "exponential:500ms,1.5,2s"),
        )
        return WorkerProcess(name, arguments, self._folder / f"{name.replace(' ', '-')}.log")

    # -- the plot ------------------------------------------------------------------------------------------------------

    def _play(self, queue: Queue, items: list[Item]) -> None:
        seconds = max(3.0, len(items) / _A_SECOND)
        events = self._plot(queue, seconds)
        at, happens = next(events)
        began = time.monotonic()
        for number, item in enumerate(items):
            self._spool(queue, item, number)
            due = began + (number + 1) / len(items) * seconds
            while time.monotonic() - began >= at:
                happens()
                at, happens = next(events)
            self._pause(queue, due)
        self._event(f"all {len(items)} files are spooled")
        while at < float("inf"):
            self._pause(queue, began + at)
            happens()
            at, happens = next(events)

    def _plot(self, queue: Queue, seconds: float) -> Iterator[tuple[float, Callable[[], None]]]:
        """Yield when something happens, in seconds, and what."""
        yield 0.25 * seconds, self._receiver_down
        yield 0.4 * seconds, lambda: self._hold(queue)
        yield 0.25 * seconds + min(2.5, 0.35 * seconds), self._receiver_up
        yield 0.8 * seconds, lambda: self._kill(queue)
        yield seconds + 0.5, lambda: self._release(queue)
        yield float("inf"), lambda: None

    def _spool(self, queue: Queue, item: Item, number: int) -> None:
        subscriber = SUBSCRIBERS[number % len(SUBSCRIBERS)]
        headers = {"content-type": item.content_type, "filename": item.path.name, SUBSCRIBER_HEADER: subscriber}
        with item.path.open("rb") as payload:
            record = queue.enqueue(payload, headers=headers, max_attempts=50)
        self._accepted[record.id] = hashlib.sha256(item.path.read_bytes()).hexdigest()

    def _hold(self, queue: Queue) -> None:
        """Hold messages that no worker has yet: those that wait for a retry, and those that have just come in."""
        for state in (State.DEFERRED, State.INCOMING):
            for message_id in queue.list(state).message_ids:
                if len(self._held) < _HELD:
                    with suppress(StateConflictError, KeyError):  # a worker was faster
                        queue.hold(message_id)
                        self._held.append(message_id)
        self._event(f"an operator holds {len(self._held)} messages")

    def _release(self, queue: Queue) -> None:
        for message_id in self._held:
            queue.release(message_id)
        self._event(f"the operator releases the {len(self._held)} messages")

    def _receiver_down(self) -> None:
        self._receiver.down()
        self._event("the receiver goes down: connections are refused")

    def _receiver_up(self) -> None:
        self._receiver.up()
        self._event("the receiver is up again")

    def _kill(self, queue: Queue) -> None:
        """Kill a worker that has messages in its handlers."""
        victim = self._view.workers[0]
        self._wait_until(lambda: bool(self._leased_by(queue, victim)), queue, patience_s=2)
        victim.kill()
        self._in_a_handler = self._leased_by(queue, victim)
        count = len(self._in_a_handler)
        noun = "message" if count == 1 else "messages"
        self._event(f"kill -9 {victim.pid}: {victim.name} dies with {count} {noun} in its hands")

    def _leased_by(self, queue: Queue, worker: WorkerProcess) -> set[str]:
        owner_part = f".{worker.pid}."
        return {record.id for record in queue.iter(State.ACTIVE) if owner_part in record.lease_owner}

    def _finish(self, queue: Queue) -> None:
        pending = set(self._accepted)

        def is_done() -> bool:
            """Ask each record: counts come from an index, which may be a moment behind."""
            ended = {m for m in pending if queue.get(m).state in {State.ARCHIVED, State.BOUNCE}}
            pending.difference_update(ended)
            return not pending

        if self._wait_until(is_done, queue, patience_s=_PATIENCE_S):
            self._event("every message is delivered, or has bounced")
        else:
            self._event(f"gave up waiting after {_PATIENCE_S:g} s")

    # -- showing -------------------------------------------------------------------------------------------------------

    def _event(self, text: str) -> None:
        self._view.events.append((time.monotonic() - self._began, text))
        self._show(self._view)

    def _look(self, queue: Queue) -> None:
        view = self._view
        view.counts = queue.counts()
        view.accepted = len(self._accepted)
        view.answered = dict(self._receiver.answered)
        view.receiver_up = self._receiver.is_up
        view.seconds = time.monotonic() - self._began
        self._show(view)

    def _pause(self, queue: Queue, until: float) -> None:
        """Wait until a moment of the monotonic clock, looking now and then."""
        while (left := until - time.monotonic()) > 0:
            if time.monotonic() - self._began - self._view.seconds > _LOOK_S:
                self._look(queue)
            threading.Event().wait(min(left, _LOOK_S))

    def _wait_until(self, condition: Callable[[], bool], queue: Queue, *, patience_s: float = 10) -> bool:
        until = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() >= until:
                return False
            self._pause(queue, min(until, time.monotonic() + 0.02))
        return True


_LOOK_S = 0.15
"""How often the states are counted."""
