"""`check`, `reconcile` and `prune`: look after a spool."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from retryspool_cli.exits import FINDINGS, OK
from retryspool_cli.output import json_option, new_table, note, print_json, print_table, printable, progress
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.tallies import messages
from retryspool_cli.values import duration, size_text

if TYPE_CHECKING:
    from retryspool import Finding
    from retryspool.spool import Discrepancy

__all__ = ["check_command", "prune_command", "reconcile_command"]

_SEVERITY_STYLES = {"notice": "cyan", "warning": "yellow", "error": "red"}


@click.command("check")
@json_option
@spool_options
@click.pass_context
def check_command(ctx: click.Context, /, *, as_json: bool) -> int:
    """Find settings and contents that endanger messages.

    Exits with 3 if it finds a warning or an error; notices are worth knowing. With --json one finding a line:
    `{"severity", "subject", "text", "message_id"}`.
    """
    from retryspool import Severity

    with open_queue(settings_of(ctx)) as queue, progress(queue.check(), "checking") as found:
        findings = list(found)
    if as_json:
        for finding in findings:
            print_json(
                {
                    "severity": finding.severity.value,
                    "subject": finding.subject,
                    "text": finding.text,
                    "message_id": finding.message_id,
                }
            )
    else:
        _print_findings(findings)
    return FINDINGS if any(finding.severity is not Severity.NOTICE for finding in findings) else OK


def _print_findings(findings: list[Finding]) -> None:
    from rich.text import Text

    if not findings:
        note("nothing was found")
        return
    table = new_table("SEVERITY", "SUBJECT", "FINDING", wrap=("SUBJECT", "FINDING"))
    for finding in findings:
        severity = finding.severity.value
        table.add_row(
            Text(severity, style=_SEVERITY_STYLES[severity]), printable(finding.subject), printable(finding.text)
        )
    print_table(table)


@click.command("reconcile")
@click.option("-n", "--dry-run", is_flag=True, help="Only report.")
@click.option(
    "--grace",
    type=duration,
    default="1h",
    show_default=True,
    metavar="DURATION",
    help="How old a payload without a record must be: longer than the longest enqueue.",
)
@json_option
@spool_options
@click.pass_context
def reconcile_command(ctx: click.Context, /, *, dry_run: bool, grace: timedelta, as_json: bool) -> int:
    """Sweep what a crash left between records and payloads.

    Payloads without a record are removed, and what writers left that never came to an end, such as multipart uploads;
    records without their payload are reported, and bounce when their turn comes.
    Exits with 3 if there is anything. With --json one line each: `{"kind", "id", "size", "state", "removed"}`.
    """
    with (
        open_queue(settings_of(ctx)) as queue,
        progress(queue.reconcile(grace=grace, dry_run=dry_run), "reconciling") as found,
    ):
        discrepancies = list(found)
    if as_json:
        for one in discrepancies:
            print_json(
                {
                    "kind": one.kind.value,
                    "id": one.message_id,
                    "size": one.size,
                    "state": one.state.label if one.state else None,
                    "removed": one.removed,
                }
            )
    else:
        _print_discrepancies(discrepancies)
    return FINDINGS if discrepancies else OK


def _print_discrepancies(discrepancies: list[Discrepancy]) -> None:
    if not discrepancies:
        note("records and payloads fit together")
        return
    table = new_table("KIND", "ID", "SIZE", "STATE", "REMOVED", right=("SIZE",))
    for one in discrepancies:
        state = one.state.label if one.state else "-"
        removed = "yes" if one.removed else "no"
        table.add_row(one.kind.value, printable(one.message_id), size_text(one.size), state, removed)
    print_table(table)


@click.command("prune")
@click.option(
    "--older-than", type=duration, metavar="DURATION", help="Those archived longer ago; else the spool's own retention."
)
@json_option
@spool_options
@click.pass_context
def prune_command(ctx: click.Context, /, *, older_than: timedelta | None, as_json: bool) -> None:
    """Delete archived messages by age.

    The retention is --older-than, or `retention_s` in the settings' table `[queue]`; with `bounce_retention_s` there
    bounced messages are deleted by age, too. With --json `{"pruned"}`.
    """
    retention_s = None if older_than is None else older_than.total_seconds()
    settings = settings_of(ctx)
    if retention_s is None and not {"retention_s", "bounce_retention_s"} & set(settings.queue):
        msg = "how old must they be? Give --older-than, or set retention_s or bounce_retention_s in the table [queue]"
        raise click.UsageError(msg)
    with open_queue(settings, retention_s=retention_s) as queue:
        pruned = queue.prune()
    if as_json:
        print_json({"pruned": pruned})
    else:
        click.echo(f"{messages(pruned)} deleted")
