from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import BinaryIO

import pytest
from queues import NewQueue, Recorder, wait_until
from spools import Zlib

from retryspool import InvalidInputError, Message, Queue, RetryableError, Spool, State, current_message_id
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.queue import AsyncPayload
from retryspool.queue.message import user_headers


class ForRoute:
    """A handler that is an object, and takes one route only."""

    def __init__(self, route: str) -> None:
        self.route = route
        self.ids: list[str] = []

    def can_handle(self, message: Message) -> bool:
        return message.route == self.route

    def handle(self, message: Message, _payload: BinaryIO) -> None:
        self.ids.append(message.id)


def test_a_decorated_function_is_a_handler_and_stays_what_it_was(queue: Queue) -> None:
    def deliver(message: Message, payload: BinaryIO) -> None: ...

    assert queue.handler(deliver) is deliver
    assert queue.bounce_handler(deliver) is deliver


def test_a_message_goes_to_the_first_handler_that_takes_it(queue: Queue) -> None:
    a, b, rest = ForRoute("a"), ForRoute("b"), Recorder()
    for handler in (a, b, rest):
        queue.add_handler(handler)
    for route in ("a", "b", "c"):
        queue.enqueue(b"", message_id=f"to-{route}", route=route)

    queue.run(until_idle=True)

    assert (["to-a"], ["to-b"], ["to-c"]) == (a.ids, b.ids, rest.ids)


def test_what_no_handler_takes_waits_and_does_not_block_those_behind_it(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=1, batch_size=1)
    queue.add_handler(taker := ForRoute("mine"))
    for number in range(20):
        queue.enqueue(b"", message_id=f"other-{number}", route="other", priority=0)
    queue.enqueue(b"", message_id="mine", route="mine", priority=100)

    queue.run(until_idle=True)

    assert ["mine"] == taker.ids
    assert 20 == queue.count(State.INCOMING)
    waiting = queue.get("other-0")
    assert (0, 0, "") == (waiting.attempts, waiting.deliveries, waiting.last_error)
    assert 20 == queue.counters.snapshot()["set_aside"]


@pytest.mark.parametrize("handler", [None, "deliver", 7, object()], ids=["none", "str", "int", "object"])
def test_what_cannot_be_called_is_no_handler(queue: Queue, handler: object) -> None:
    with pytest.raises(InvalidInputError, match="is not a handler"):
        queue.add_handler(handler)  # type: ignore[arg-type]


def _generator(_message: Message, _payload: BinaryIO) -> Iterator[None]:
    yield


async def _async_generator(_message: Message, _payload: AsyncPayload) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("handler", [_generator, _async_generator])
def test_a_generator_function_is_refused_where_it_is_added(queue: Queue, handler: Callable[..., object]) -> None:
    with pytest.raises(InvalidInputError, match="is a generator function: nobody would run it"):
        queue.add_handler(handler)


def test_a_handler_that_would_choose_by_a_coroutine_is_refused(queue: Queue) -> None:
    class Chooser(ForRoute):
        async def can_handle(self, message: Message) -> bool:  # type: ignore[override]
            return message.route == self.route

    with pytest.raises(InvalidInputError, match=r"can_handle of .* is a coroutine function"):
        queue.add_handler(Chooser("a"))  # type: ignore[arg-type]


def test_a_handler_whose_result_nobody_awaits_has_failed(queue: Queue) -> None:
    class Later:
        def __await__(self) -> None: ...

    queue.add_handler(lambda _message, _payload: Later())
    queue.enqueue(b"", message_id="a")

    queue.run(until_idle=True)

    assert (State.DEFERRED, 1) == (queue.get("a").state, queue.get("a").attempts)
    assert "which nobody awaits" in queue.get("a").last_error


def test_a_handler_is_given_the_message_and_its_payload(queue: Queue) -> None:
    queue.add_handler(recorder := Recorder())
    stored = queue.enqueue(b"hello", headers={"to": "x"}, route="r", priority=3, max_attempts=4)

    queue.run(until_idle=True)

    (message,) = recorder.messages
    assert [(stored.id, b"hello")] == recorder.given
    assert ({"to": "x"}, "r", 3, 4, 5) == (
        message.headers,
        message.route,
        message.priority,
        message.max_attempts,
        message.size,
    )
    assert (0, 1, State.INCOMING, "", stored.created) == (
        message.attempts,
        message.deliveries,
        message.claimed_from,
        message.last_error,
        message.created,
    )


def test_the_payload_is_closed_when_the_handler_ends(queue: Queue) -> None:
    payloads: list[BinaryIO] = []

    @queue.handler
    def deliver(message: Message, payload: BinaryIO) -> None:
        payloads.append(payload)
        assert not payload.closed
        if message.id == "bad":
            raise ValueError

    queue.enqueue(b"")
    queue.enqueue(b"", message_id="bad")
    queue.run(until_idle=True)

    assert [True, True] == [payload.closed for payload in payloads]


def test_headers_that_a_handler_sets_are_stored_with_its_failure(queue: Queue) -> None:
    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        message.headers["seen"] = "1"
        del message.headers["once"]
        raise ValueError

    queue.enqueue(b"", message_id="a", headers={"once": "x", "to": "y"})
    queue.run(until_idle=True)

    assert {"to": "y", "seen": "1"} == user_headers(queue.get("a").headers)


def test_headers_that_a_handler_sets_are_stored_with_the_archived_message(new_queue: NewQueue) -> None:
    queue = new_queue(on_success="archive")

    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        message.headers["receipt"] = "42"

    queue.enqueue(b"x", message_id="a")
    queue.run(until_idle=True)

    assert (State.ARCHIVED, {"receipt": "42"}) == (queue.get("a").state, user_headers(queue.get("a").headers))


def test_headers_of_one_message_are_not_those_of_another(new_queue: NewQueue) -> None:
    queue = new_queue(on_success="archive", concurrency=4)

    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        message.headers[f"by-{message.id}"] = "1"

    ids = [queue.enqueue(b"").id for _ in range(50)]
    queue.run(until_idle=True)

    assert [{f"by-{each}": "1"} for each in ids] == [user_headers(queue.get(each).headers) for each in ids]


def test_headers_that_a_handler_sets_are_stored_beside_those_that_make_the_payload_readable(
    new_queue: NewQueue,
) -> None:
    queue = new_queue(spool=Spool(MemoryMeta(), MemoryData(), middleware=[Zlib()]), on_success="archive")

    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        assert {"to": "x"} == message.headers
        message.headers = {"x-retryspool-encoding": "none", "only": "this"}

    queue.enqueue(b"body", message_id="a", headers={"to": "x"})
    queue.run(until_idle=True)

    assert {"only": "this"} == user_headers(queue.get("a").headers)
    assert b"body" == queue.open_payload("a").read()


def test_a_context_that_a_handler_sets_is_not_that_of_the_next(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=1)
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen: list[str] = []

    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        seen.append(variable.get())
        variable.set(message.id)

    for _ in range(3):
        queue.enqueue(b"")
    queue.run(until_idle=True)

    assert ["unset"] * 3 == seen


def test_headers_that_are_no_headers_any_more_are_the_handlers_failure(queue: Queue) -> None:
    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        message.headers = None if message.id == "a" else {1: 2}  # type: ignore[assignment, dict-item] # pyright: ignore[reportAttributeAccessIssue]

    for name in ("a", "b"):
        queue.enqueue(b"", message_id=name, headers={"to": "x"})
    queue.run(until_idle=True)

    after = [queue.get(name) for name in ("a", "b")]
    assert [(State.DEFERRED, {"to": "x"})] * 2 == [(record.state, user_headers(record.headers)) for record in after]


class _CarelessError(RetryableError):
    def __init__(self, after: object) -> None:  # without its parent's
        if after is not None:
            self.after = after  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("after", [None, "soon", 7], ids=repr)
def test_a_retryable_error_that_was_made_carelessly_is_retried_by_policy(queue: Queue, after: object) -> None:
    @queue.handler
    def deliver(_message: Message, _payload: BinaryIO) -> None:
        raise _CarelessError(after)

    queue.enqueue(b"", message_id="a")
    queue.run(until_idle=True)

    assert (State.DEFERRED, 1) == (queue.get("a").state, queue.get("a").attempts)


@pytest.mark.parametrize("value", [None, 7, "nul\0"], ids=["none", "int", "nul"])
def test_headers_that_cannot_be_stored_are_the_handlers_failure(queue: Queue, value: object) -> None:
    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        message.headers["bad"] = value  # type: ignore[assignment]

    queue.enqueue(b"", message_id="a", headers={"to": "x"})
    queue.run(until_idle=True)

    after = queue.get("a")
    assert (State.DEFERRED, 1, {"to": "x"}) == (after.state, after.attempts, user_headers(after.headers))
    assert "InvalidMetadataError" in after.last_error


def test_a_failing_can_handle_is_the_messages_failure(queue: Queue) -> None:
    class Broken(ForRoute):
        def can_handle(self, message: Message) -> bool:  # noqa: ARG002 -- it fails for each
            raise ZeroDivisionError

    queue.add_handler(Broken(""))
    queue.enqueue(b"", message_id="a")
    queue.run(until_idle=True)

    assert (State.DEFERRED, "ZeroDivisionError") == (queue.get("a").state, queue.get("a").last_error)


def test_the_current_message_is_known_inside_its_handler_only(queue: Queue) -> None:
    seen: list[str | None] = []
    queue.add_handler(lambda _message, _payload: seen.append(current_message_id()))
    for name in ("a", "b"):
        queue.enqueue(b"", message_id=name)

    queue.run(until_idle=True)

    assert {"a", "b"} == set(seen)
    assert current_message_id() is None


def test_a_handler_may_be_added_while_the_queue_runs(queue: Queue) -> None:
    queue.add_handler(ForRoute("other"))
    queue.start()
    queue.add_handler(late := Recorder())
    queue.enqueue(b"", message_id="a")

    late.wait_for(1)
    wait_until(lambda: queue.count(State.INCOMING) + queue.count(State.ACTIVE) == 0)


def test_a_partial_and_a_method_are_handlers(queue: Queue) -> None:
    recorder = Recorder()
    queue.add_handler(partial(Recorder.__call__, recorder))
    queue.add_bounce_handler(recorder.__call__)
    queue.enqueue(b"x")

    queue.run(until_idle=True)

    assert 1 == len(recorder.given)
