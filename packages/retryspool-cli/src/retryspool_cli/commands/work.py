"""`work`: deliver messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from retryspool_cli.exits import WrongUsageError
from retryspool_cli.output import json_option, note, print_json
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.values import duration, duration_text, header

if TYPE_CHECKING:
    from retryspool import Queue


__all__ = ["work_command"]

Function = TypeVar("Function", bound=Callable[..., object])


def _named_policy(text: str) -> tuple[str, str]:
    """Convert an option: a retry policy with its name."""
    name, sign, written = text.partition("=")
    if not sign or not name:
        msg = f"{text!r} is not a named retry policy, such as quick=fixed:30s"
        raise click.BadParameter(msg)
    return name, written


_TARGET_OPTIONS = (
    click.option("--handler", metavar="MODULE:CALLABLE", help="Deliver to a function (message, payload) -> None."),
    click.option(
        "--exec", "command", metavar="COMMAND", help="… to a shell command, the payload on its standard input."
    ),
    click.option("--webhook", metavar="URL", help="… to a URL, by POST."),
    click.option("--smtp", metavar="HOST[:PORT]", help="… to a mail server."),
    click.option("--bounce-handler", metavar="MODULE:CALLABLE", help="Where messages go that failed for good."),
    click.option("--bounce-exec", metavar="COMMAND", help="… to a shell command."),
    click.option("--bounce-webhook", metavar="URL", help="… to a URL."),
    click.option("--timeout", type=duration, metavar="DURATION", help="How long one delivery waits for its peer."),
    click.option(
        "--webhook-header", "webhook_headers", type=header, multiple=True, metavar="NAME=VALUE", help="Sent each time."
    ),
    click.option(
        "--smtp-tls", type=click.Choice(["off", "starttls", "implicit"]), default="off", show_default=True, help="TLS."
    ),
    click.option("--smtp-user", metavar="NAME", help="Log in. The password is in RETRYSPOOL_SMTP_PASSWORD."),
)

_QUEUE_OPTIONS = (
    click.option("--concurrency", type=int, metavar="N", help="Deliveries at once. [8]"),
    click.option(
        "--lease", type=duration, metavar="DURATION", help="After so long others take over if this dies. [60s]"
    ),
    click.option(
        "--grace", type=duration, metavar="DURATION", help="How long to wait for deliveries at the end. [30s]"
    ),
    click.option("--retry-policy", metavar="POLICY", help="For messages that name none: fixed:30s, or a name."),
    click.option("--policy", "policies", type=_named_policy, multiple=True, metavar="NAME=POLICY", help="Define one."),
    click.option("--on-success", type=click.Choice(["delete", "archive"]), help="What becomes of messages. [delete]"),
    click.option(
        "--on-bounce", type=click.Choice(["keep", "delete", "archive"]), help="… once a bounce handler had them. [keep]"
    ),
)


def _options(function: Function) -> Function:
    for option in reversed((*_TARGET_OPTIONS, *_QUEUE_OPTIONS)):
        function = option(function)
    return function


@click.command("work")
@_options
@click.option("--drain", is_flag=True, help="End as soon as nothing is due.")
@json_option
@spool_options
@click.pass_context
def work_command(ctx: click.Context, /, *, drain: bool, as_json: bool, **given: Any) -> None:
    r"""Deliver messages: to a function, a command, a webhook or a mail server.

    Until SIGTERM or Ctrl-C: then it waits for deliveries that run, up to --grace; a second Ctrl-C ends it at once. Any
    number of workers may work one spool. What a failed delivery means (later, or never) depends on where it goes:

    \b
    --exec     exit code 0 is success; 75, 71 and those sysexits.h doesn't
               know are retried; the others of sysexits.h bounce
    --webhook  2xx is success; 408, 425, 429, 5xx, 3xx and no answer are
               retried, after Retry-After if it's there; other 4xx bounce
    --smtp     4xx is retried, 5xx bounces
    --handler  PermanentError bounces, any other exception is retried

    Retry policies are written fixed:30s, schedule:1m,5m,1h or exponential:1s,2,1h (base, factor, cap), each with
    ,jitter=0.2 if you like.

    At the end, it reports what it did on standard error; with --json as a document on standard output.
    """
    worker = _Work(given)
    began = time.monotonic()
    with open_queue(settings_of(ctx), create=True, **worker.queue_options()) as queue:
        try:
            worker.attach(queue)
            queue.run(until_idle=drain)
        finally:
            worker.stop()
    _report(queue, time.monotonic() - began, as_json=as_json)


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
        print_json({"seconds": round(seconds, 3), **counted})
        return
    delivered = int(counted["delivered"])
    parts = [f"{delivered} delivered", f"{int(counted['deferred'])} deferred", f"{int(counted['bounced'])} bounced"]
    for name, text in (
        ("bounces_handled", "bounces handled"),
        ("set_aside", "set aside"),
        ("released", "given back"),
        ("lost_leases", "lost to other workers"),
    ):
        if counted[name]:
            parts.append(f"{int(counted[name])} {text}")
    rate = f", {delivered / seconds:.0f} a second" if delivered and seconds else ""
    note(f"{', '.join(parts)} in {duration_text(timedelta(seconds=seconds))}{rate}")
