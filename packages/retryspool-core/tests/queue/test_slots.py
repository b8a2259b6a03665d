"""Slots: as many handlers at once as there are, and none that waits for one that's free."""

import threading
from collections import Counter

import pytest

from retryspool.queue.slots import Slots

THREADS = 12


@pytest.mark.timeout(60)
@pytest.mark.parametrize("count", [1, 3, THREADS, 100])
def test_no_more_hold_one_than_there_are_and_each_gets_its_turn(count: int) -> None:
    slots = Slots(count)
    lock = threading.Lock()
    held, most = 0, 0

    def work() -> None:
        nonlocal held, most
        for _ in range(500):
            slots.acquire()
            with lock:
                held += 1
                most = max(most, held)
            with lock:
                held -= 1
            slots.release()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)

    assert [False] * THREADS == [thread.is_alive() for thread in threads]
    assert (0, True) == (held, most <= count)


@pytest.mark.timeout(60)
def test_all_that_become_free_at_once_are_taken_though_those_who_take_them_keep_them() -> None:
    slots = Slots(THREADS)
    for _ in range(THREADS):
        slots.acquire()
    taken: Counter[str] = Counter()
    everyone = threading.Barrier(THREADS + 1)

    def take() -> None:
        slots.acquire()
        taken["taken"] += 1
        everyone.wait(50)

    for _ in range(THREADS):
        threading.Thread(target=take, daemon=True).start()
    for _ in range(THREADS):
        slots.release()
    everyone.wait(50)

    assert {"taken": THREADS} == taken


@pytest.mark.timeout(60)
def test_there_may_come_to_be_more_or_fewer() -> None:
    slots = Slots(1)
    slots.acquire()
    waiting = threading.Thread(target=slots.acquire, daemon=True)
    waiting.start()

    slots.resize(2)
    waiting.join(50)
    slots.resize(1)
    slots.release()
    late = threading.Thread(target=slots.acquire, daemon=True)
    late.start()
    late.join(0.1)
    assert (False, True) == (waiting.is_alive(), late.is_alive())
    slots.release()
    late.join(50)

    assert not late.is_alive()
