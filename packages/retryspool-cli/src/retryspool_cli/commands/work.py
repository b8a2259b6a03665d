"""`work`: deliver messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from retryspool_cli.exits import WrongUsageError
from retryspool_cli.observers import add_observers, make_observers, observer_option
from retryspool_cli.output import json_option, note, print_json
from retryspool_cli.routes import named_route
from retryspool_cli.sections import SectionedCommand, section
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.values import duration, duration_text, header

if TYPE_CHECKING:
    from retryspool import Queue


__all__ = ["work_command"]


def _named_policy(text: str) -> tuple[str, str]:
    """Convert an option: a retry policy with its name."""
    name, sign, written = text.partition("=")
    if not sign or not name:
        msg = f"{text!r} is not a named retry policy, such as quick=fixed:30s"
        raise click.BadParameter(msg)
    return name, written


_TARGETS = (
    click.option("--handler", metavar="MODULE:NAME", help="A function (message, payload) -> None."),
    click.option("--exec", "command", metavar="COMMAND", help="A shell command; the payload is on its standard input."),
    click.option("--webhook", metavar="URL", help="A URL, by POST."),
    click.option("--smtp", metavar="HOST[:PORT]", help="A mail server."),
    click.option("--timeout", type=duration, metavar="DURATION", help="How long one delivery waits for its peer."),
    click.option(
        "--webhook-header", "webhook_headers", type=header, multiple=True, metavar="NAME=VALUE", help="Sent each time."
    ),
    click.option(
        "--webhook-secret-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Sign with its secrets; or with those in RETRYSPOOL_WEBHOOK_SECRET.",
    ),
    click.option(
        "--smtp-tls", type=click.Choice(["off", "starttls", "implicit"]), default="off", help="Off by default."
    ),
    click.option("--smtp-user", metavar="NAME", help="Log in; the password is in RETRYSPOOL_SMTP_PASSWORD."),
)
_BOUNCE_TARGETS = (
    click.option("--bounce-handler", metavar="MODULE:NAME", help="A function."),
    click.option("--bounce-exec", metavar="COMMAND", help="A shell command."),
    click.option("--bounce-webhook", metavar="URL", help="A URL."),
    click.option(
        "--on-bounce", type=click.Choice(["keep", "delete", "archive"]), help="What becomes of them then. [keep]"
    ),
)
_QUEUE = (
    click.option("--concurrency", type=int, metavar="N", help="Deliveries at once. [8]"),
    click.option("--lease", type=duration, metavar="DURATION", help="So long after its death others take over. [60s]"),
    click.option("--grace", type=duration, metavar="DURATION", help="How long a stop waits for deliveries. [30s]"),
    click.option("--retry-policy", metavar="POLICY", help="For messages that name none: fixed:30s, or a name."),
    click.option("--policy", "policies", type=_named_policy, multiple=True, metavar="NAME=POLICY", help="Define one."),
    click.option("--route", "routes", type=named_route, multiple=True, metavar="PATTERN=LIMITS", help="See below."),
    click.option("--on-success", type=click.Choice(["delete", "archive"]), help="What becomes of messages. [delete]"),
    click.option("--drain", is_flag=True, help="End as soon as nothing is due."),
    json_option,
)
_WATCHING = (
    click.option(
        "--metrics",
        metavar="[HOST:]PORT",
        help="Serve /metrics for Prometheus, /healthz and /readyz there; by default for this machine alone.",
    ),
    observer_option,
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        help="With json a line for each message that is settled, too. [text]",
    ),
)

_HELP = """Deliver messages: to a function, a command, a webhook or a mail server.

Until SIGTERM or Ctrl-C: then it waits for deliveries that run, up to --grace; a second Ctrl-C ends it at once. Any
number of workers may work one spool.

\b
              delivered    retried                          bounced
  --exec      exit code 0  75, 71, any that sysexits.h      the others of
                           doesn't know, killed by signal   sysexits.h
  --webhook   2xx          408, 425, 429, 5xx, 3xx, no      other 4xx
                           answer; after Retry-After
  --smtp      2xx          4xx, no answer                   5xx
  --handler   it returns   any other exception              PermanentError

A retry policy is written fixed:30s, schedule:1m,5m,1h or exponential:1s,2,1h (base, factor, cap); each may end in
,jitter=0.2. It has a name if it is defined by --policy, or in the settings' table [retry_policies].

Limits of a destination are written --route 'example.com=rate:10/minute,concurrency:5', for a route or a pattern such as
'*.example.org'; or in the settings' table [routes]. There are concurrency, initial_concurrency, rate, dead_after, rest,
rest_factor, rest_cap and rest_jitter.

At the end it reports on standard error what it did; with --json as a document on standard output.
"""


@click.command("work", cls=SectionedCommand, help=_HELP)
@section("Where messages go", *_TARGETS)
@section("Where messages go that failed for good", *_BOUNCE_TARGETS)
@section("How", *_QUEUE)
@section("For those who watch it", *_WATCHING)
@spool_options
@click.pass_context
def work_command(ctx: click.Context, /, *, drain: bool, as_json: bool, **given: Any) -> None:
    """Deliver messages."""
    worker = _Work(given)
    watch = _endpoint(given["metrics"])
    settings = settings_of(ctx)
    observers = make_observers(given["observers"] or settings.observers)
    if given["log_format"] == "json":
        from retryspool_cli.logs import log_as_json

        log_as_json()
    began = time.monotonic()
    with open_queue(settings, create=True, **worker.queue_options()) as queue:
        try:
            worker.attach(queue)
            add_observers(queue, observers)
            with watch(queue):
                queue.run(until_idle=drain)
            seconds = time.monotonic() - began
        finally:
            worker.stop()
    _report(queue, seconds, as_json=as_json)


def _endpoint(listen: str | None) -> Callable[[Queue], AbstractContextManager[object]]:
    """Return what makes the endpoint that is asked for, of a queue.

    :raises WrongUsageError: that isn't where to listen, or it lacks what it needs
    """
    if listen is None:
        return nullcontext
    from retryspool_cli.watch.opening import load_endpoint, parse_listen

    endpoint = load_endpoint()
    host, port = parse_listen(listen)

    @contextmanager
    def watched(queue: Queue) -> Generator[None]:
        with endpoint(queue, host, port) as serving:
            note(f"metrics at {serving.url}/metrics, health at /healthz and /readyz")
            yield

    return watched


class _Work:
    """What the options ask for."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._handlers: list[Any] = []

    def queue_options(self) -> dict[str, Any]:
        """Return the options to open the queue with."""
        given = self._given
        policies = dict(given["policies"])
        named = given["retry_policy"]
        if named is not None and ":" in named:
            policies["command-line"] = named
            named = "command-line"
        return {
            "policies": policies,
            "routes": dict(given["routes"]),
            "retry_policy": named,
            "concurrency": given["concurrency"],
            "lease_s": _seconds(given["lease"]),
            "grace_s": _seconds(given["grace"]),
            "on_success": given["on_success"],
            "on_bounce": given["on_bounce"],
        }

    def attach(self, queue: Queue) -> None:
        """Add the handlers to the queue.

        :raises WrongUsageError: there's nowhere to deliver to
        """
        from retryspool_cli.handlers.targets import Target, make_handler

        given = self._given
        common: dict[str, Any] = {
            "timeout_s": _seconds(given["timeout"]),
            "connections": queue.options.concurrency,
            "webhook_headers": given["webhook_headers"],
            "webhook_secret_file": given["webhook_secret_file"],
        }
        mail: dict[str, Any] = {name: given[name] for name in ("smtp", "smtp_tls", "smtp_user")}
        where: dict[str, Any] = {name: given[name] for name in ("handler", "command", "webhook")}
        bounced: dict[str, Any] = {name: given[f"bounce_{option}"] for name, option in _BOUNCE_OPTIONS.items()}
        deliver = make_handler(Target(**where, **mail, **common))
        bounce = make_handler(Target(**bounced, **common))
        if deliver is None and bounce is None:
            msg = "deliver where? Name it with --handler, --exec, --webhook or --smtp"
            raise WrongUsageError(msg)
        self._handlers = [deliver, bounce]
        if deliver is not None:
            queue.add_handler(deliver)
        if bounce is not None:
            queue.add_bounce_handler(bounce)

    def stop(self) -> None:
        """Let the handlers end what they still run."""
        from retryspool_cli.handlers.targets import stop_handler

        for handler in self._handlers:
            stop_handler(handler)


_BOUNCE_OPTIONS = {"handler": "handler", "command": "exec", "webhook": "webhook"}


def _seconds(given: timedelta | None) -> float | None:
    return None if given is None else given.total_seconds()


def _report(queue: Queue, seconds: float, *, as_json: bool) -> None:
    counted: Mapping[str, float] = dict(queue.counters.snapshot().items())
    if as_json:
        handler_s = round(counted["handler_seconds"], 3)
        whole = {name: int(count) for name, count in counted.items()}
        resting = {status.route: status.last_error for status in queue.routes() if status.state == "resting"}
        print_json({"seconds": round(seconds, 3), **whole, "handler_seconds": handler_s, "resting": resting})
        return
    for status in queue.routes():
        if status.state == "resting":
            note(f"route {status.route!r} takes nothing: {status.last_error}")
    delivered = int(counted["delivered"])
    parts = [f"{delivered} delivered", f"{int(counted['deferred'])} deferred", f"{int(counted['bounced'])} bounced"]
    for name, text in (
        ("bounces_handled", "bounces handled"),
        ("set_aside", "set aside"),
        ("put_off", "put off"),
        ("released", "given back"),
        ("lost_leases", "lost to other workers"),
    ):
        if counted[name]:
            parts.append(f"{int(counted[name])} {text}")
    rate = f", {delivered / seconds:.0f} a second" if delivered and seconds else ""
    note(f"{', '.join(parts)} in {duration_text(timedelta(seconds=seconds))}{rate}")
