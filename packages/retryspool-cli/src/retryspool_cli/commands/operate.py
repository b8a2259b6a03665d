"""`hold`, `release`, `retry`, `bounce`, `requeue`, `set` and `rm`: what an operator does to messages by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from retryspool_cli.exits import FAILED, OK, WrongUsageError
from retryspool_cli.output import error, json_option, note, print_json, progress, progress_of
from retryspool_cli.sections import SectionedCommand
from retryspool_cli.selection import Selection, selection_options
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.tallies import messages, print_tally
from retryspool_cli.values import STATES

if TYPE_CHECKING:
    from retryspool import Change, MessageMetadata, Queue, Tally

__all__ = [
    "bounce_command",
    "hold_command",
    "release_command",
    "requeue_command",
    "retry_command",
    "rm_command",
    "set_command",
]

_SELECTS = """

IDs are arguments, or lines of standard input where one of them is `-`; with --json one line each: `{"id", "action",
"ok", "state", "error"}`.

--all takes every message that the options mean, and asks first. What a worker has, and what changes meanwhile, is
skipped and counted; a run that was interrupted can be run again. With --json one document: `{"action", "dry_run",
"matched", "changed", "states", "skipped", "failed", "sample"}`.

Exits with 1 if it failed for some.
"""


@dataclass(frozen=True, slots=True)
class _Operation:
    """One thing to do to messages, and how to speak of it."""

    name: str
    verb: str
    done: str
    possible: tuple[str, ...]
    """The states whose messages it is for."""
    change: Change
    per_second: float | None = None
    export: Path | None = None
    """A folder that messages are written to before they're deleted."""

    def run(self, ctx: click.Context, given: dict[str, Any], *, as_json: bool) -> int:
        """Do it to the messages that are selected."""
        selection = Selection.take(given)
        selection.check(self.possible)
        with open_queue(settings_of(ctx)) as queue:
            if selection.everything:
                return self._all(queue, selection, as_json=as_json)
            return self._each(queue, selection, as_json=as_json)

    # -- all that are meant --------------------------------------------------------------------------------------------

    def _all(self, queue: Queue, selection: Selection, *, as_json: bool) -> int:
        if selection.needs_answer(self.verb, as_json=as_json):
            expected = self._change_all(queue, selection, dry_run=True)
            print_tally(expected, self.name, self.done, dry_run=True, as_json=False)
            if not expected.changed:
                return OK
            click.confirm(f"{self.verb} {messages(expected.changed)}?", abort=True, err=True)
        tally = self._change_all(queue, selection, dry_run=selection.dry_run)
        print_tally(tally, self.name, self.done, dry_run=selection.dry_run, as_json=as_json)
        return FAILED if tally.failed else OK

    def _change_all(self, queue: Queue, selection: Selection, *, dry_run: bool) -> Tally:
        where = selection.where
        total = sum(queue.count(state) for state in where.states or self.change.states)
        so_far: list[Tally] = []

        def tell(tally: Tally) -> None:
            so_far[:] = [tally]
            advance(tally.looked_at)

        try:
            with progress_of(self.verb.lower(), total) as advance:
                return queue.change_all(
                    self.change,
                    where,
                    dry_run=dry_run,
                    per_second=self.per_second,
                    progress=tell,
                    before=None if self.export is None else partial(_exported, queue, self.export),
                )
        except BaseException:
            if so_far and not dry_run:
                note(f"{messages(so_far[0].changed)} {self.done} until then")
            raise

    # -- one by one ----------------------------------------------------------------------------------------------------

    def _each(self, queue: Queue, selection: Selection, *, as_json: bool) -> int:
        if self.per_second is not None:
            msg = "--rate goes with --all"
            raise WrongUsageError(msg)
        counted = _Counted()
        with progress(selection.ids(), self.verb.lower()) as ids:
            for message_id in ids:
                self._one(queue, message_id, counted, dry_run=selection.dry_run, as_json=as_json)
        if not as_json:
            click.echo(f"{messages(counted.done)} {'would be ' if selection.dry_run else ''}{self.done}")
        return FAILED if counted.failed else OK

    def _one(self, queue: Queue, message_id: str, counted: _Counted, *, dry_run: bool, as_json: bool) -> None:
        from retryspool import InvalidMessageIdError, StorageError

        state: str | None = None
        problem = ""
        try:
            if self.export is not None and not dry_run:
                _export_or_fail(queue, self.export, message_id)
            record = self._look(queue, message_id) if dry_run else queue.change_one(message_id, self.change)
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
        from retryspool import State, StateConflictError

        record = queue.get(message_id)
        if record.state.label not in self.possible:
            raise StateConflictError(message_id, found=record.state, expected=State.from_label(self.possible[0]))
        return record


@dataclass(slots=True)
class _Counted:
    done: int = 0
    failed: int = 0


def _command(
    name: str, text: str, *options: Callable[..., Any]
) -> Callable[[Callable[..., _Operation]], click.Command]:
    """Make a command of a function that returns the operation, from the options of its own."""

    def decorate(operation: Callable[..., _Operation]) -> click.Command:
        @click.command(name, cls=SectionedCommand, help=text + _SELECTS)
        @selection_options
        @json_option
        @spool_options
        @click.pass_context
        def command(ctx: click.Context, /, *, as_json: bool, **given: Any) -> int:
            own = {key: given.pop(key) for key in names}
            return operation(**own).run(ctx, given, as_json=as_json)

        before = {param.name for param in command.params}
        decorated = command
        for option in reversed(options):
            decorated = option(decorated)
        names = [param.name for param in decorated.params if param.name and param.name not in before]
        return decorated

    return decorate


_RATE = click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="With --all: so many a second become due."
)


@_command("hold", "Set messages aside until they are released.")
def hold_command() -> _Operation:
    """Set messages aside."""
    return _Operation("hold", "Hold", "held", ("incoming", "deferred", "bounce"), _change("hold"))


@_command("release", "Let messages on hold go on.", _RATE)
def release_command(rate: float | None) -> _Operation:
    """Let messages go on."""
    return _Operation("release", "Release", "released", ("hold",), _change("release"), rate)


@_command(
    "retry",
    "Make messages due now.\n\nBounced and archived ones start from their first attempt: this replays them.",
    _RATE,
)
def retry_command(rate: float | None) -> _Operation:
    """Make messages due."""
    possible = ("incoming", "deferred", "hold", "bounce", "archived")
    return _Operation("retry", "Retry", "due" if rate else "due now", possible, _change("retry"), rate)


@_command("requeue", "Deliver archived messages again, as if they had just come in.", _RATE)
def requeue_command(rate: float | None) -> _Operation:
    """Deliver messages again."""
    return _Operation("requeue", "Requeue", "requeued", ("archived",), _change("requeue"), rate)


@_command(
    "bounce",
    "Give messages up.\n\nThey go to BOUNCE, and to bounce handlers if there are any.",
    click.option("--reason", default="", help="What `last_error` says from then on."),
)
def bounce_command(reason: str) -> _Operation:
    """Give messages up."""
    possible = ("incoming", "deferred", "hold")
    return _Operation("bounce", "Bounce", "bounced", possible, _change("bounce", reason))


@_command(
    "set",
    "Change the route, priority or retry policy of messages.",
    click.option("--new-route", metavar="ROUTE", help="Another destination; '' for none."),
    click.option("--new-priority", type=click.IntRange(0, 100), metavar="0-100", help="1 goes before 5."),
    click.option("--new-policy", metavar="NAME", help="Another retry policy; '' for the default."),
)
def set_command(new_route: str | None, new_priority: int | None, new_policy: str | None) -> _Operation:
    """Change fields of messages."""
    wanted = {"set_route": new_route, "set_priority": new_priority, "set_retry_policy": new_policy}
    if all(value is None for value in wanted.values()):
        msg = "set what? Give --new-route, --new-priority or --new-policy"
        raise WrongUsageError(msg)
    possible = tuple(state for state in STATES if state != "active")
    made = [_change(name, value) for name, value in wanted.items() if value is not None]
    return _Operation("set", "Change", "changed", possible, _change("combined", made))


@_command(
    "rm",
    "Delete messages for good.",
    click.option(
        "--export",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Write each to files there before: import brings it back.",
    ),
)
def rm_command(export: Path | None) -> _Operation:
    """Delete messages."""
    return _Operation("rm", "Delete", "deleted", STATES, _change("delete"), export=export)


def _exported(queue: Queue, folder: Path, records: Iterable[MessageMetadata]) -> list[MessageMetadata]:
    """Write messages to files; returns those that are safe there."""
    from retryspool.transfer import FolderSink, export_messages

    safe: list[MessageMetadata] = []
    with FolderSink(folder) as sink:
        exported = export_messages(queue.spool, records, sink, safe=safe.append)
    for reason, count in exported.failed.most_common():
        error(f"{messages(count)} kept, for the export failed: {reason}")
    versions = {record.id: record.version for record in safe}
    return [record for record in records if versions.get(record.id) == record.version]


def _export_or_fail(queue: Queue, folder: Path, message_id: str) -> None:
    from retryspool.transfer import FolderSink

    record = queue.get(message_id)
    with FolderSink(folder) as sink, queue.open_payload(message_id) as payload:
        sink.write(record, payload)


def _change(name: str, *arguments: Any) -> Change:
    """Return what a function of `retryspool.queue.changes` makes; --help needs no import of it."""
    from retryspool.queue import changes

    made: Change = getattr(changes, name)(*arguments)
    return made
