"""How a worker ends: by stop, by signal, by close, and not at all in a fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from queue import Empty, SimpleQueue

import pytest
from queues import PATIENCE_S, Gate, NewQueue, Recorder, wait_until

from retryspool import Queue, State
from retryspool.queue.signals import next_event, signals_into


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("retryspool-")}


def test_stopping_lets_what_runs_come_to_its_end(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=2)
    queue.add_handler(gate := Gate())
    for number in range(6):
        queue.enqueue(b"", message_id=f"m{number}")
    queue.start()
    gate.wait_for(2)
    stopping = threading.Thread(target=queue.stop)
    stopping.start()
    wait_until(lambda: not queue.running)

    gate.opened.set()
    stopping.join(PATIENCE_S)

    assert (2, 4, 0) == (len(gate.left), queue.count(State.INCOMING), queue.count(State.ACTIVE))
    assert {0} == {record.deliveries for record in queue.iter(State.INCOMING)}
    assert set() == threads()


def test_what_was_claimed_but_not_begun_is_released_uncounted(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=1)
    queue.add_handler(gate := Gate())
    queue.enqueue(b"", message_id="runs")
    queue.start()
    gate.wait_for(1)
    queue.enqueue(b"", message_id="waits")
    worker = queue._worker
    assert worker is not None
    claimed = queue.spool.meta.claim([State.INCOMING], limit=1, lease=timedelta(minutes=1), owner=worker.owner)
    worker._hand_out(claimed, 1e12)

    queue.stop(0)

    wait_until(lambda: queue.get("waits").state is State.INCOMING)
    assert (0, 0) == (queue.get("waits").deliveries, queue.get("waits").attempts)
    assert State.ACTIVE is queue.get("runs").state
    gate.opened.set()
    wait_until(lambda: not threads())
    assert (["runs"], 1) == (gate.left, queue.counters.snapshot()["released"])


def test_a_handler_that_outlasts_the_grace_keeps_its_lease_and_is_settled_when_it_ends(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(gate := Gate())
    queue.enqueue(b"", message_id="a")
    queue.start()
    gate.wait_for(1)

    queue.stop(0)
    assert not queue.running
    assert (State.ACTIVE, False) == (queue.get("a").state, gate.messages[0].lost)
    gate.opened.set()

    wait_until(lambda: queue.counters.snapshot()["delivered"] == 1)
    wait_until(lambda: not threads())


def test_a_handler_that_outlasts_close_is_told_and_its_message_is_delivered_again(new_queue: NewQueue) -> None:
    queue, heir = new_queue(grace_s=0), new_queue()
    queue.add_handler(gate := Gate())
    queue.enqueue(b"", message_id="a")
    queue.start()
    gate.wait_for(1)

    queue.close()
    assert gate.messages[0].lost
    gate.opened.set()
    wait_until(lambda: not threads())

    assert State.ACTIVE is heir.get("a").state
    assert 0 == queue.counters.snapshot()["delivered"]


def test_a_stopped_queue_starts_again(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(recorder := Recorder())
    for number in range(5):
        queue.start()
        queue.enqueue(b"", message_id=f"m{number}")
        recorder.wait_for(number + 1)
        queue.stop()
        assert not queue.running
        queue.stop()

    assert 5 == len(recorder.ids)
    assert set() == threads()


def test_a_block_works_until_it_ends(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(recorder := Recorder())

    with queue as entered:
        assert entered is queue
        assert queue.running
        queue.enqueue(b"")
        recorder.wait_for(1)

    assert not queue.running
    assert set() == threads()


def test_run_ends_when_another_thread_stops_it(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(Recorder(then=lambda _: threading.Thread(target=queue.stop).start()))
    queue.enqueue(b"")

    queue.run()

    assert not queue.running
    wait_until(lambda: not threads())


def test_a_run_that_was_stopped_leaves_the_next_start_alone(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(recorder := Recorder())
    running = threading.Thread(target=queue.run)
    running.start()
    wait_until(lambda: queue.running)
    first = queue._worker
    assert first is not None

    queue.stop()
    queue.start()
    running.join(PATIENCE_S)
    queue._end(first, 0)

    assert queue.running
    queue.enqueue(b"")
    recorder.wait_for(1)


def test_closing_waits_for_a_stop_that_is_under_way(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(gate := Gate())
    queue.enqueue(b"")
    queue.start()
    gate.wait_for(1)
    ending = [threading.Thread(target=end) for end in (queue.stop, queue.close)]
    ending[0].start()
    wait_until(lambda: not queue.running)
    ending[1].start()

    gate.opened.set()
    for thread in ending:
        thread.join(PATIENCE_S)

    assert 1 == queue.counters.snapshot()["delivered"]


def test_a_handler_may_stop_its_own_queue(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=1, grace_s=3600)
    queue.add_handler(Recorder(then=lambda _: queue.stop()))
    queue.enqueue(b"")
    queue.enqueue(b"")

    queue.run()

    wait_until(lambda: not threads())
    assert (1, 1) == (queue.counters.snapshot()["delivered"], queue.count(State.INCOMING))


def test_stopping_an_idle_queue_is_prompt(new_queue: NewQueue) -> None:
    queue = new_queue(poll_s=3600, grace_s=PATIENCE_S)
    queue.add_handler(Recorder())
    queue.start()

    stopping = threading.Thread(target=queue.stop)
    stopping.start()
    stopping.join(PATIENCE_S / 2)

    assert not stopping.is_alive()
    assert set() == threads()


WORKING = """
import os, signal, sys, threading
from retryspool import Queue, QueueOptions, Spool, State
from retryspool.memory import MemoryData, MemoryMeta

queue = Queue(Spool(MemoryMeta(), MemoryData()), QueueOptions(concurrency=1, grace_s=30))
opened = threading.Event()

@queue.handler
def deliver(message, payload):
    print("begun", flush=True)
    while queue.running:
        opened.wait(0.01)
    print("stopping", flush=True)
    opened.wait(30)

for _ in range(3):
    queue.enqueue(b"")

def listen():
    if sys.stdin.readline():
        opened.set()

threading.Thread(target=listen, daemon=True).start()
before = signal.getsignal(signal.SIGTERM)
queue.run()
assert before is signal.getsignal(signal.SIGTERM)
print("counts", queue.count(State.INCOMING), queue.count(State.ACTIVE), queue.counters.snapshot()["delivered"])
queue.close()
"""


@contextmanager
def working() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(WORKING)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "begun\n" == process.stdout.readline()
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_runs_and_leaves_the_rest(number: signal.Signals) -> None:
    with working() as process:
        process.send_signal(number)
        assert process.stdout is not None
        assert "stopping\n" == process.stdout.readline()
        out, _ = process.communicate("go on\n", timeout=PATIENCE_S)

    assert "counts 2 0 1\n" == out
    assert 0 == process.returncode


def test_a_second_signal_does_not_wait() -> None:
    with working() as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGTERM)
        assert "stopping\n" == process.stdout.readline()  # two signals at once may arrive as one
        process.send_signal(signal.SIGTERM)

        out, _ = process.communicate(timeout=PATIENCE_S)

    assert "counts 2 1 0\n" == out
    assert 0 == process.returncode


def test_a_signal_that_does_not_wake_the_main_thread_is_heeded_all_the_same() -> None:
    # As one that comes just before it sleeps: the interpreter's handler has run, and nothing ends the wait.
    received: SimpleQueue[int | None] = SimpleQueue()
    with signals_into(received):
        elsewhere = threading.Timer(0.05, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM))
        elsewhere.start()

        assert signal.SIGTERM == next_event(received, PATIENCE_S)
        elsewhere.join()


def test_waiting_for_a_signal_ends_when_its_time_is_over() -> None:
    with pytest.raises(Empty):
        next_event(SimpleQueue(), 0)


def in_child(check: object) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: a process with threads forks
        pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = check()  # type: ignore[operator]
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def test_a_running_queue_does_not_run_in_the_child_of_a_fork(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(recorder := Recorder())
    queue.start()

    def child() -> int:
        ran_before = queue.running
        queue.stop()
        queue.start()
        return 0 if (ran_before, queue.running) == (False, True) and queue._worker is not None else 1

    assert 0 == in_child(child)
    assert queue.running
    queue.enqueue(b"")
    recorder.wait_for(1)


def test_a_handler_that_forks_settles_in_the_parent_alone(new_queue: NewQueue) -> None:
    queue: Queue = new_queue()
    children: list[int] = []

    @queue.handler
    def deliver(_message: object, _payload: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            children.append(pid)
        # The child returns as well, as a careless handler's does: its thread must end without settling.

    queue.enqueue(b"", message_id="a")
    queue.start()
    wait_until(lambda: queue.counters.snapshot()["delivered"] == 1)

    for pid in children:
        os.waitpid(pid, 0)
    assert 1 == len(children)
