"""What was done to many messages, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypedDict

import click

from retryspool_cli.output import error, note, print_json, print_table

if TYPE_CHECKING:
    from retryspool import Tally

__all__ = ["TallyJson", "messages", "print_failed", "print_tally"]


class TallyJson(TypedDict):
    """What `--all --json` prints: `skipped` and `failed` count by reason, `states` by the state that they were in."""

    action: str
    dry_run: bool
    matched: int
    changed: int
    states: dict[str, int]
    skipped: dict[str, int]
    failed: dict[str, int]
    sample: list[str]


def messages(count: int) -> str:
    """Return a number of messages as people read it."""
    return f"{count:,} message{'' if count == 1 else 's'}"


def print_failed(failed: Counter[str]) -> None:
    """Say on standard error for how many messages it failed, by the reason, the most frequent first."""
    for reason, count in failed.most_common():
        error(f"{messages(count)}: {reason}")


def print_tally(tally: Tally, action: str, done: str, *, dry_run: bool, as_json: bool) -> None:
    """Print what was done, or would be."""
    if as_json:
        document: TallyJson = {
            "action": action,
            "dry_run": dry_run,
            "matched": tally.matched,
            "changed": tally.changed,
            "states": dict(tally.states),
            "skipped": dict(tally.skipped),
            "failed": dict(tally.failed),
            "sample": [record.id for record in tally.sample],
        }
        print_json(document)
        return
    if dry_run and tally.sample:
        from retryspool_cli.listing import message_table

        print_table(message_table(tally.sample))
        if tally.changed > len(tally.sample):
            click.echo("…")
    where = ", ".join(f"{count:,} in {state}" for state, count in tally.states.most_common())
    would = "would be " if dry_run else ""
    click.echo(f"{messages(tally.changed)} {would}{done}{f': {where}' if dry_run and tally.changed else ''}")
    if tally.skipped:
        reasons = ", ".join(f"{count:,} × {reason}" for reason, count in tally.skipped.most_common())
        note(f"{tally.skipped.total():,} skipped: {reasons}")
    print_failed(tally.failed)
