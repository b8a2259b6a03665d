"""`health`: whether a worker, or a spool, is ready; by its exit code."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import click

from retryspool_cli.exits import FAILED, OK, CommandError, WrongUsageError
from retryspool_cli.output import json_option, note, print_json
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.values import duration

if TYPE_CHECKING:
    from retryspool_cli.settings import Settings

__all__ = ["health_command"]

_READY = "/readyz"


@click.command("health")
@click.argument("url", required=False)
@click.option(
    "--timeout",
    type=duration,
    default="5s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for answers.",
)
@json_option
@spool_options
@click.pass_context
def health_command(ctx: click.Context, /, *, url: str | None, timeout: timedelta, as_json: bool) -> int:
    """Tell whether a worker, or a spool, is ready.

    With URL, such as http://127.0.0.1:9464, it asks the worker that serves --metrics there: /readyz, unless the URL
    names another path. Without, it asks both stores of the spool.

    Exit code 0 if all is well, and 1 if it isn't.
    """
    seconds = timeout.total_seconds()
    is_ready, found = _ask_spool(settings_of(ctx), seconds) if url is None else _ask_worker(url, seconds)
    if as_json:
        print_json(found)
    elif is_ready:
        note("ready" if "ready" in found else "alive")
    else:
        note("; ".join(f"{what}: {answer}" for what, answer in found.items() if answer not in {"ok", False, True}))
    return OK if is_ready else FAILED


def _ask_spool(settings: Settings, seconds: float) -> tuple[bool, dict[str, Any]]:
    from retryspool import deadline
    from retryspool_cli.watch.health import check_spool

    with deadline(seconds), open_queue(settings) as queue:
        health = check_spool(queue)
    return health["ready"], dict(health)


def _ask_worker(url: str, seconds: float) -> tuple[bool, dict[str, Any]]:
    """Ask a worker.

    :raises WrongUsageError: that's no URL to ask at
    :raises CommandError: it doesn't answer, or something else does
    """
    import urllib3

    asked = _where(url)
    try:
        response = urllib3.request("GET", asked, timeout=seconds, retries=False, redirect=False)
        found: object = json.loads(response.data)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        msg = f"{url}: {error}"
        raise CommandError(msg) from error
    if not isinstance(found, dict):
        msg = f"{asked} isn't a worker's: it answered {found!r}"
        raise CommandError(msg)
    return response.status == 200, cast("dict[str, Any]", found)  # noqa: PLR2004 -- OK


def _where(url: str) -> str:
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    try:
        parsed = parse_url(url)
    except LocationParseError:
        parsed = None
    if parsed is None or parsed.scheme not in {"http", "https"} or not parsed.host:
        msg = f"{url!r} is not a URL to ask at, such as http://127.0.0.1:9464"
        raise WrongUsageError(msg)
    return url if parsed.path not in {None, "", "/"} else url.rstrip("/") + _READY
