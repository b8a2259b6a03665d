"""What happens in the demo, and when."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from retryspool import BackendUnavailableError, DeadlineExceededError, Queue, State, StateConflictError, deadline
from retryspool.ids import new_message_id
from retryspool_cli.demo.corpus import Item, make_files
from retryspool_cli.demo.ledger import Ledger, audit
from retryspool_cli.demo.outages import Outages
from retryspool_cli.demo.receiver import SUBSCRIBER_HEADER, SUBSCRIBERS, Receiver, read_log
from retryspool_cli.demo.stores import Stores
from retryspool_cli.demo.workers import WorkerProcess
from retryspool_cli.exits import CommandError

__all__ = ["Scenario", "View"]

_A_SECOND = 40
"""How many messages are spooled a second."""
_HELD = 8
"""How many are held for a while."""
_PATIENCE_S = 30.0
"""How long to wait for the last message, before the ledger tells what is missing."""
_LEASE_S = 3
_TIMEOUT_S = 5
_ENQUEUE_S = 3.0
"""How long one try to spool a file may take."""
_SETTLE_S = 1.0
"""How long a result may wait for others, or for its turn, before it's stored."""


@dataclass(slots=True)
class View:
    """What there is to see, for whoever shows it."""

    counts: dict[State, int] = field(default_factory=dict[State, int])
    accepted: int = 0
    answered: dict[int, int] = field(default_factory=dict[int, int])
    receiver_up: bool = True
    servers: dict[str, bool] = field(default_factory=dict[str, bool])
    """The throw-away servers, and whether each is up."""
    workers: list[WorkerProcess] = field(default_factory=list[WorkerProcess])
    events: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    """When, in seconds from the start, and what."""
    seconds: float = 0


class Scenario:
    """One run.

    :param folder: for the files and the logs
    :param stores: where the messages go; its throw-away servers are killed and started again in the middle
    :param show: called a few times a second, and at each event
    """

    def __init__(self, folder: Path, stores: Stores, messages: int, show: Callable[[View], None]) -> None:
        self._folder = folder
        self._stores = stores
        self._messages = messages
        self._show = show
        self._began = time.monotonic()
        self._view = View()
        self._accepted: dict[str, str] = {}
        self._held: list[str] = []
        self._in_a_handler: set[str] = set()
        self._outages = Outages(stores.servers, self._note)
        self._log = folder / "receiver.log"
        self._receiver = Receiver(self._log)

    def run(self) -> Ledger:
        """Play it to the end, and audit it."""
        items = list(make_files(self._folder / "files", self._messages))
        self._receiver.up()
        self._stores.configure(self._folder)
        with self._stores.open_queue() as queue:
            self._view.workers = [self._worker(name) for name in ("worker 1", "worker 2")]
            try:
                begun = self._wait_until(lambda: all(worker.has_begun for worker in self._view.workers), queue)
                if not begun:
                    msg = f"the workers haven't begun within {_PATIENCE_S:g} s"
                    raise CommandError(msg)
                self._event(f"{self._messages} files to spool; the receiver is up, two workers have started")
                self._play(queue, items)
                self._finish(queue)
                self._look(queue)
            finally:
                for worker in self._view.workers:
                    worker.stop(10)
                self._receiver.close()
                self._outages.wait()
            return audit(queue, self._accepted, self._log, self._in_a_handler | self._hit())

    def _worker(self, name: str) -> WorkerProcess:
        arguments = (
            *("work", "--webhook", self._receiver.url, "--concurrency", "4", "--lease", f"{_LEASE_S}s"),
            *("--grace", "5s", "--timeout", f"{_TIMEOUT_S}s", "--on-success", "archive"),
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
            while time.monotonic() - began >= at and not self._outages.are_going_on:
                happens()
                at, happens = next(events)
            self._pause(queue, due)
        self._event(f"all {len(items)} files are spooled")
        while at < float("inf"):
            self._pause(queue, began + at)
            self._wait_until(lambda: not self._outages.are_going_on, queue)
            happens()
            at, happens = next(events)

    def _plot(self, queue: Queue, seconds: float) -> Iterator[tuple[float, Callable[[], None]]]:
        """Yield when something happens, in seconds, and what."""
        yield 0.25 * seconds, self._receiver_down
        yield 0.4 * seconds, lambda: self._hold(queue)
        yield 0.25 * seconds + min(2.5, 0.35 * seconds), self._receiver_up
        if self._stores.servers:
            yield 0.65 * seconds, self._outages.begin
        yield 0.8 * seconds, lambda: self._kill(queue)
        yield seconds + 0.5, lambda: self._release(queue)
        yield float("inf"), lambda: None

    def _spool(self, queue: Queue, item: Item, number: int) -> None:
        subscriber = SUBSCRIBERS[number % len(SUBSCRIBERS)]
        headers = {"content-type": item.content_type, "filename": item.path.name, SUBSCRIBER_HEADER: subscriber}
        message_id = new_message_id()
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                with deadline(_ENQUEUE_S), item.path.open("rb") as payload:
                    queue.enqueue(payload, message_id=message_id, if_exists="skip", headers=headers, max_attempts=50)
                break
            except (BackendUnavailableError, DeadlineExceededError):
                if time.monotonic() >= until:
                    raise
                self._pause(queue, time.monotonic() + _LOOK_S)  # by its id it's stored once, whatever has happened
        self._accepted[message_id] = hashlib.sha256(item.path.read_bytes()).hexdigest()

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
        return {record.id for record in queue.iter(State.ACTIVE) if worker.is_owner_in(record.lease_owner)}

    def _finish(self, queue: Queue) -> None:
        pending = set(self._accepted)

        def is_done() -> bool:
            """Ask each record: counts come from an index, which may be a moment behind."""
            with suppress(BackendUnavailableError):
                ended = {m for m in pending if queue.get(m).state in {State.ARCHIVED, State.BOUNCE}}
                pending.difference_update(ended)
            return not pending

        if self._wait_until(is_done, queue):
            self._event("every message is delivered, or has bounced")
        else:
            self._event(f"gave up waiting after {_PATIENCE_S:g} s")

    def _hit(self) -> set[str]:
        """Return what was delivered when nobody could tell a killed server: it may have been delivered again."""
        return {
            taken.message_id
            for taken in read_log(self._log)
            if self._outages.may_have_hit(taken.at, before_s=_SETTLE_S, after_s=_LEASE_S)
        }

    # -- showing -------------------------------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        """Have an event shown with the next look; for other threads."""
        self._view.events.append((time.monotonic() - self._began, text))

    def _event(self, text: str) -> None:
        self._note(text)
        self._show(self._view)

    def _look(self, queue: Queue) -> None:
        view = self._view
        view.servers = {server.title: server.is_running for server in self._stores.servers}
        with suppress(BackendUnavailableError, DeadlineExceededError), deadline(_LOOK_S):
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

    def _wait_until(self, condition: Callable[[], bool], queue: Queue, *, patience_s: float = _PATIENCE_S) -> bool:
        until = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() >= until:
                return False
            self._pause(queue, min(until, time.monotonic() + 0.02))
        return True


_LOOK_S = 0.15
"""How often the states are counted."""
