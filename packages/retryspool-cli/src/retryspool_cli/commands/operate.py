"""`hold`, `release`, `retry`, `bounce`, `requeue` and `rm`: what an operator does to messages by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from retryspool_cli.exits import FAILED, OK
from retryspool_cli.output import error, json_option, print_json, progress
from retryspool_cli.selection import Selection, selection_options
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.values import STATES

if TYPE_CHECKING:
    from retryspool import MessageMetadata, Queue

__all__ = [
    "bounce_command",
    "hold_command",
    "release_command",
    "requeue_command",
    "retry_command",
    "rm_command",
]

_SELECTS = """

IDs are arguments, or lines of standard input where one of them is `-`. --all takes every message of the states that are
named, and asks first. With --json one line each: `{"id", "action", "ok", "state", "error"}`. Exits with 1 if it failed
for some.
"""


@dataclass(frozen=True, slots=True)
class _Operation:
    """One thing to do to messages, and how to speak of it."""

    name: str
    verb: str
    done: str
    possible: tuple[str, ...]
    """The states whose messages it is for."""
    apply: Callable[[Queue, str], MessageMetadata | None]
    """Do it to one message; returns its record afterwards, if there still is one."""

    def run(self, ctx: click.Context, selection: Selection, *, as_json: bool) -> int:
        selection.check(self.possible)
        with open_queue(settings_of(ctx)) as queue:
            selection.confirm(queue, self.verb)
            counted = _Counted()
            with progress(selection.ids(queue), self.verb.lower()) as ids:
                for message_id in ids:
                    self._one(queue, message_id, counted, dry_run=selection.dry_run, as_json=as_json)
        if not as_json:
            messages = "message" if counted.done == 1 else "messages"
            click.echo(f"{counted.done} {messages} {'would be ' if selection.dry_run else ''}{self.done}")
        return FAILED if counted.failed else OK

    def _one(self, queue: Queue, message_id: str, counted: _Counted, *, dry_run: bool, as_json: bool) -> None:
        from retryspool import InvalidMessageIdError, StorageError

        state: str | None = None
        problem = ""
        try:
            record = self._look(queue, message_id) if dry_run else self.apply(queue, message_id)
            state = record.state.label if record else None
            counted.done += 1
        except (InvalidMessageIdError, StorageError) as failure:
            problem = str(failure)
            counted.failed += 1
        if as_json:
            print_json(
                {"id": message_id, "action": self.name, "ok": not problem, "state": state, "error": problem or None}
            )
        elif problem:
            error(problem)
        elif dry_run:
            click.echo(message_id)

    def _look(self, queue: Queue, message_id: str) -> MessageMetadata:
        from retryspool import StateConflictError

        record = queue.get(message_id)
        if record.state.label not in self.possible:
            raise StateConflictError(message_id, found=record.state, expected=_state(self.possible[0]))
        return record


@dataclass(slots=True)
class _Counted:
    done: int = 0
    failed: int = 0


def _state(label: str) -> Any:
    from retryspool import State

    return State.from_label(label)


def _command(operation: _Operation, text: str) -> click.Command:
    @click.command(operation.name, help=text + _SELECTS)
    @selection_options
    @json_option
    @spool_options
    @click.pass_context
    def command(ctx: click.Context, /, *, as_json: bool, **selected: Any) -> int:
        return operation.run(ctx, Selection(**selected), as_json=as_json)

    return command


def _delete(queue: Queue, message_id: str) -> None:
    queue.delete(message_id)


hold_command = _command(
    _Operation("hold", "Hold", "held", ("incoming", "deferred", "bounce"), lambda queue, i: queue.hold(i)),
    "Set messages aside until they are released.",
)
release_command = _command(
    _Operation("release", "Release", "released", ("hold",), lambda queue, i: queue.release(i)),
    "Let messages on hold go on.",
)
retry_command = _command(
    _Operation(
        "retry",
        "Retry",
        "due now",
        ("incoming", "deferred", "hold", "bounce", "archived"),
        lambda queue, message_id: queue.retry(message_id),
    ),
    "Make messages due now.\n\nBounced and archived ones start from their first attempt.",
)
requeue_command = _command(
    _Operation("requeue", "Requeue", "requeued", ("archived",), lambda queue, i: queue.requeue(i)),
    "Deliver archived messages again, as if they had just come in.",
)
rm_command = _command(
    _Operation("rm", "Delete", "deleted", STATES, _delete),
    "Delete messages for good.",
)


@click.command(
    "bounce", help="Give messages up.\n\nThey go to BOUNCE, and to bounce handlers if there are any." + _SELECTS
)
@click.option("--reason", default="", help="What `last_error` says from then on.")
@selection_options
@json_option
@spool_options
@click.pass_context
def bounce_command(ctx: click.Context, /, *, reason: str, as_json: bool, **selected: Any) -> int:
    """Give messages up."""
    operation = _Operation(
        "bounce",
        "Bounce",
        "bounced",
        ("incoming", "deferred", "hold"),
        lambda queue, message_id: queue.bounce(message_id, reason),
    )
    return operation.run(ctx, Selection(**selected), as_json=as_json)
