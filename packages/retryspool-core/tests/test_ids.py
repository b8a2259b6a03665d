"""Message ids: which there are, and how they are made."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import uuid
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import FAST, HOSTILE_IDS, TRICKY_IDS, message_ids

from retryspool import ids
from retryspool.conformance.racing import race
from retryspool.errors import InvalidMessageIdError
from retryspool.ids import MAX_ID_LENGTH, new_message_id, validate_message_id


@FAST
@given(message_id=message_ids)
def test_an_id_is_returned_as_it_is(message_id: str) -> None:
    assert message_id == validate_message_id(message_id)


def test_ids_that_something_else_confuses_are_ids() -> None:
    assert list(TRICKY_IDS) == [validate_message_id(message_id) for message_id in TRICKY_IDS]


def test_what_is_no_id_is_refused() -> None:
    for hostile in (*HOSTILE_IDS, None, 7, b"a", ["a"]):
        with pytest.raises(InvalidMessageIdError, match="is not a message id: 1 to 200 characters"):
            validate_message_id(hostile)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@FAST
@given(text=st.text(max_size=210))
def test_exactly_the_alphabet_is_accepted(text: str) -> None:
    alphabet = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._=@+-")
    expected = 1 <= len(text) <= MAX_ID_LENGTH and set(text) <= alphabet and text[0].isalnum()
    try:
        validate_message_id(text)
    except InvalidMessageIdError:
        assert not expected
    else:
        assert expected


def test_an_error_about_a_huge_id_is_short() -> None:
    with pytest.raises(InvalidMessageIdError) as refused:
        validate_message_id("x" * 1_000_000)
    assert len(str(refused.value)) < 250


def test_a_new_id_is_a_uuid_of_version_7_made_now() -> None:
    before = time.time_ns() // 1_000_000

    made = uuid.UUID(new_message_id())

    assert (7, uuid.RFC_4122) == (made.version, made.variant)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000 + 1000
    assert str(made) == validate_message_id(str(made))


def test_new_ids_sort_in_the_order_in_which_they_were_made() -> None:
    made = [new_message_id() for _ in range(10_000)]

    assert sorted(set(made)) == made


def test_new_ids_sort_even_while_the_clock_stands_or_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns()
    ticks = iter([now, now, now, now - 10**12, now - 1, now, now + 1, now + 10**9])
    monkeypatch.setattr(ids.time, "time_ns", lambda: next(ticks))  # type: ignore[attr-defined]

    made = [new_message_id() for _ in range(8)]

    assert sorted(set(made)) == made


def test_threads_make_different_ids() -> None:
    made = race(8, lambda _: [new_message_id() for _ in range(1000)])

    assert 8000 == len({message_id for batch in made if isinstance(batch, list) for message_id in batch})
    assert all(isinstance(batch, list) and sorted(batch) == batch for batch in made)


def test_a_child_makes_ids_though_another_thread_held_the_lock_at_the_fork() -> None:
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with new_message_id._lock:
            held.set()
            forked.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is the point
        child = os.fork()
    if child == 0:  # nothing of pytest may run in here
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)  # ends a child that waits for ever
            os.write(writer, new_message_id().encode())
        finally:
            os._exit(0)
    forked.set()
    holder.join()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        made = pipe.read().decode()
    os.waitpid(child, 0)

    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", made)
    assert made != new_message_id()
