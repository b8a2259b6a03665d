"""`migrate`, `export` and `import`: messages from one spool to another, to files, and from files."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import click

from retryspool_cli.exits import FAILED, INTERRUPTED, OK, WrongUsageError
from retryspool_cli.filters import filter_options, make_filter, state_option, take_filter
from retryspool_cli.output import error, json_option, note, print_json, progress_of
from retryspool_cli.sections import SectionedCommand, section
from retryspool_cli.settings import Settings, open_queue, settings_of, spool_options
from retryspool_cli.tallies import messages, print_failed
from retryspool_cli.values import header, size_text

if TYPE_CHECKING:
    from retryspool import Queue
    from retryspool.transfer import Aside, Exported, Found, Imported, Moved, Sink

__all__ = ["export_command", "import_command", "migrate_command"]

_narrowing = section("Only messages", state_option, filter_options)


# -- migrate -----------------------------------------------------------------------------------------------------------


@click.command("migrate", cls=SectionedCommand)
@section(
    "Where to",
    click.option("--to", metavar="FOLDER", help="A spool in a folder."),
    click.option("--to-meta", metavar="URL", help="Or where its records are …"),
    click.option("--to-data", metavar="URL", help="… and where its payloads are."),
    click.option("--to-middleware", multiple=True, metavar="NAME", help="What payloads go through there, in order."),
)
@_narrowing
@click.option("-n", "--dry-run", is_flag=True, help="Only count.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes later, until Ctrl-C or SIGTERM.")
@json_option
@spool_options
@click.pass_context
def migrate_command(
    ctx: click.Context,
    /,
    *,
    to: str | None,
    to_meta: str | None,
    to_data: str | None,
    to_middleware: tuple[str, ...],
    state: tuple[str, ...],
    dry_run: bool,
    follow: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Move messages to another spool, while both are worked.

    Each is delivered by one of the two, and once: while it is on its way, by neither. A run that was interrupted, or
    killed, is finished by the next. Deferred messages keep their due times, held ones are held there too; what a worker
    has at the moment stays, and is told: run it again, or --follow. What is paused is not carried over.

    With --json a document: `{"messages", "size", "finished", "begun_anew", "busy", "failed"}`. Exits with 1 if some
    couldn't be moved.
    """
    from retryspool.transfer import Migration

    target_settings = replace(_target(to, to_meta, to_data), middleware=to_middleware)
    where = make_filter(state, take_filter(given))
    with (
        open_queue(settings_of(ctx)) as source,
        nullcontext(source) if dry_run else open_queue(target_settings, create=True) as target,
        _stopped_by_signals() as stop,
    ):
        migration = Migration(source.spool, target.spool, where, batch_size=source.options.batch_size)
        if dry_run:
            moved = migration.count()
        else:
            with progress_of("moving", None if follow else sum(source.counts().values())) as advance:
                moved = migration.run(lambda moved: advance(moved.messages), follow=follow, stop=stop)
    _print_moved(moved, dry_run=dry_run, as_json=as_json)
    if stop.is_set() and not follow:
        return INTERRUPTED
    return FAILED if moved.failed else OK


def _target(folder: str | None, meta: str | None, data: str | None) -> Settings:
    if folder is not None and meta is None and data is None:
        return Settings(spool=Path(folder), source="--to")
    if folder is None and meta is not None and data is not None:
        return Settings(meta=meta, data=data, source="--to-meta and --to-data")
    msg = "where to? Name one spool: --to FOLDER, or --to-meta URL and --to-data URL"
    raise WrongUsageError(msg)


@contextmanager
def _stopped_by_signals() -> Generator[Event]:
    """Yield what SIGINT and SIGTERM set: messages that are on their way arrive first. A second one ends it at once."""
    stop = Event()

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_moved(moved: Moved, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(moved), "failed": dict(moved.failed)})
        return
    click.echo(f"{messages(moved.messages)} {'would be ' if dry_run else ''}moved, {size_text(moved.size)}")
    if moved.finished or moved.begun_anew:
        note(f"of an earlier run, {moved.finished:,} were finished and {moved.begun_anew:,} begun anew")
    if moved.busy:
        note(f"{messages(moved.busy)} stayed with a worker")
    print_failed(moved.failed)


# -- export ------------------------------------------------------------------------------------------------------------


@click.command("export", cls=SectionedCommand)
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["folder", "maildir", "mbox", "tar"]),
    help="Else by the name's end: .mbox, .tar, .tar.gz or .tgz; a folder otherwise.",
)
@_narrowing
@json_option
@spool_options
@click.pass_context
def export_command(
    ctx: click.Context,
    /,
    *,
    target: Path,
    kind: Literal["folder", "maildir", "mbox", "tar"] | None,
    state: tuple[str, ...],
    as_json: bool,
    **given: Any,
) -> int:
    """Write messages to files, from which import brings them back as they were.

    Payloads and headers are written as they were handed in, decrypted ones too; nothing in the spool changes. A folder
    gets `ID.data` and `ID.json` for each, and is gone on with where an export was interrupted; an archive or a mailbox
    appears when it is whole. Messages that a worker has are written as if it hadn't.

    With --json a document: `{"messages", "size", "existing", "gone", "failed"}`. Exits with 1 if some couldn't be
    exported.
    """
    from retryspool.transfer import export_messages

    where = make_filter(state, take_filter(given))
    with open_queue(settings_of(ctx)) as queue, open_sink(target, kind) as sink:
        total = sum(queue.count(each) for each in where.states) if where.states else sum(queue.counts().values())
        with progress_of("exporting", total) as advance:
            exported = export_messages(
                queue.spool,
                queue.select(where),
                sink,
                progress=lambda exported: advance(exported.messages + exported.existing),
            )
    _print_exported(exported, as_json=as_json)
    return FAILED if exported.failed else OK


def open_sink(target: Path, kind: Literal["folder", "maildir", "mbox", "tar"] | None) -> Sink:
    """Open what an export is written to, by its kind, or by its name."""
    from retryspool.transfer import FolderSink, MaildirSink, MboxSink, TarSink

    if kind is None:
        if target.name.endswith((".tar", ".tar.gz", ".tgz")):
            kind = "tar"
        else:
            kind = "mbox" if target.name.endswith(".mbox") else "folder"
    kinds: dict[str, Callable[[Path], Sink]] = {
        "folder": FolderSink,
        "maildir": MaildirSink,
        "mbox": MboxSink,
        "tar": TarSink,
    }
    return kinds[kind](target)


def _print_exported(exported: Exported, *, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(exported), "failed": dict(exported.failed)})
        return
    click.echo(f"{messages(exported.messages)} exported, {size_text(exported.size)}")
    if exported.existing:
        note(f"{messages(exported.existing)} there already, as they are")
    print_failed(exported.failed)


# -- import ------------------------------------------------------------------------------------------------------------


@click.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["files", "maildir", "mbox", "queue", "tar"]),
    help="Else what it looks like.",
)
@click.option("--deep", is_flag=True, help="Of files: those in folders below, too.")
@click.option("-H", "--header", "headers", type=header, multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option("--route", default="", metavar="ROUTE", help="The destination.")
@click.option("--priority", type=click.IntRange(0, 100), metavar="0-100", help="1 goes before 5.")
@click.option("--max-attempts", type=click.IntRange(1, 1000), metavar="N", help="So many failures, and it bounces.")
@click.option("--retry-policy", default="", metavar="NAME", help="The name of a policy that the worker knows.")
@click.option("--hold", is_flag=True, help="Keep them on hold until they are released.")
@click.option("-n", "--dry-run", is_flag=True, help="Only count.")
@json_option
@spool_options
@click.pass_context
def import_command(
    ctx: click.Context, /, *, source: Path, kind: str | None, deep: bool, dry_run: bool, as_json: bool, **fields: Any
) -> int:
    """Take messages from files: an export, a Maildir, a mailbox, an archive, or any files.

    A message's id is its file's name, or is made of it; a mailbox's is made of its content. What is there already is
    left alone, so that an import can be run again. Messages of an export come back as they were; to others the options
    apply. Links are not followed. A queue is a folder with incoming/, deferred/, hold/ … as Postfix has them; of
    Postfix's own the mails are taken with their envelopes: stop it first.

    With --json a document: `{"messages", "size", "existing", "aside"}`, `aside` counting by reason what was left aside.
    Exits with 1 if anything was.
    """
    from retryspool import QueueOptions
    from retryspool.queue.policy import Policies
    from retryspool.transfer import import_messages
    from retryspool_cli.policies import parse_policies

    settings = settings_of(ctx)
    if fields["retry_policy"]:
        Policies(parse_policies(settings.retry_policies), QueueOptions().retry_policy).require(fields["retry_policy"])
    with open_queue(settings, create=not dry_run) as queue:
        found = _found(queue, source, kind, fields, deep=deep)
        with progress_of("importing", None) as advance:
            imported = import_messages(
                queue.spool,
                found,
                dry_run=dry_run,
                progress=lambda imported: advance(imported.messages + imported.existing),
                told=lambda name, reason: error(f"{name}: {reason}"),
            )
    _print_imported(imported, dry_run=dry_run, as_json=as_json)
    return FAILED if imported.aside else OK


def _found(
    queue: Queue, source: Path, kind: str | None, fields: dict[str, Any], *, deep: bool
) -> Iterator[Found | Aside]:
    from retryspool import MessageMetadata, State
    from retryspool.transfer import read_files, read_maildir, read_mbox, read_queue_folder, read_tar

    options = queue.options
    template = MessageMetadata(
        "template",
        state=State.HOLD if fields["hold"] else State.INCOMING,
        max_attempts=fields["max_attempts"] or options.max_attempts,
        priority=options.priority if fields["priority"] is None else fields["priority"],
        headers=dict(fields["headers"]),
        route=fields["route"],
        retry_policy_name=fields["retry_policy"],
    )
    kind = kind or _looks_like(source)
    if deep and kind != "files":
        msg = f"--deep is for files; {source} is taken for: {kind}"
        raise WrongUsageError(msg)
    if kind == "files":
        return read_files(source, template, deep=deep)
    readers = {"maildir": read_maildir, "mbox": read_mbox, "queue": read_queue_folder, "tar": read_tar}
    return readers[kind](source, template)


def _looks_like(source: Path) -> str:
    import tarfile

    if source.is_dir():
        if (source / "new").is_dir() and (source / "cur").is_dir():
            return "maildir"
        return "queue" if any((source / name).is_dir() for name in ("incoming", "deferred", "maildrop")) else "files"
    with source.open("rb") as file:
        if file.read(5) in {b"From ", b""}:
            return "mbox"
    if tarfile.is_tarfile(source):
        return "tar"
    msg = f"{source} is neither a folder, nor a mailbox, nor a tar archive; for a single file, `retryspool enqueue`"
    raise WrongUsageError(msg)


def _print_imported(imported: Imported, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(imported), "aside": dict(imported.aside)})
        return
    size = "" if dry_run else f", {size_text(imported.size)}"
    click.echo(f"{messages(imported.messages)} {'would be ' if dry_run else ''}imported{size}")
    if imported.existing:
        note(f"{messages(imported.existing)} there already")
