"""`pause` and `resume`: whether workers claim."""

from __future__ import annotations

import click

from retryspool_cli.exits import WrongUsageError
from retryspool_cli.output import json_option, note, print_json
from retryspool_cli.pauses import paused_json, print_paused, who
from retryspool_cli.settings import open_queue, settings_of, spool_options

__all__ = ["pause_command", "resume_command"]

_route_option = click.option(
    "--route", "routes", multiple=True, metavar="ROUTE", help="This route alone; may be repeated."
)
_AFTERWARDS = """ With --json what is paused now: `{"spool": null or {"since", "by", "reason"}, "routes": {…}}`."""


@click.command(
    "pause",
    help="Let workers claim nothing until it is resumed.\n\nFrom the whole spool, or of a route: by no worker, on "
    "whatever machine, after a restart too. What is in delivery is finished; messages still come in, and wait."
    + _AFTERWARDS,
)
@_route_option
@click.option("--reason", default="", metavar="TEXT", help="Why: shown to all who look.")
@click.option("--by", metavar="NAME", help="Who: else you, as user@host.")
@click.option("-l", "--list", "only_list", is_flag=True, help="Only show what is paused.")
@json_option
@spool_options
@click.pass_context
def pause_command(
    ctx: click.Context, /, *, routes: tuple[str, ...], reason: str, by: str | None, only_list: bool, as_json: bool
) -> None:
    """Let workers claim nothing."""
    if only_list and (routes or reason or by):
        msg = "--list only shows what is paused; leave out the others"
        raise WrongUsageError(msg)
    with open_queue(settings_of(ctx)) as queue:
        if not only_list:
            for route in routes or (None,):
                queue.pause(route, by=who() if by is None else by, reason=reason)
        paused = queue.paused()
    if as_json:
        print_json(paused_json(paused))
    elif not print_paused(paused):
        note("nothing is paused")


@click.command("resume", help="Let workers claim again.\n\nFrom the spool, or of a route." + _AFTERWARDS)
@_route_option
@click.option("--all", "everything", is_flag=True, help="The spool and all routes.")
@json_option
@spool_options
@click.pass_context
def resume_command(ctx: click.Context, /, *, routes: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Let workers claim again."""
    if everything and routes:
        msg = "--all resumes all routes; leave out --route"
        raise WrongUsageError(msg)
    with open_queue(settings_of(ctx)) as queue:
        if everything:
            queue.resume_all()
        else:
            for route in routes or (None,):
                if not queue.resume(route):
                    note(f"{'the spool' if route is None else f'route {route}'} was not paused")
        paused = queue.paused()
    if as_json:
        print_json(paused_json(paused))
    elif print_paused(paused):
        note("these are still paused")
