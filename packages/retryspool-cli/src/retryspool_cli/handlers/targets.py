"""What `retryspool work` was told to deliver to, made into a handler."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from retryspool_cli.exits import WrongUsageError

if TYPE_CHECKING:
    from retryspool.queue import Handle

__all__ = ["PASSWORD_VARIABLE", "Target", "make_handler", "parse_address", "stop_handler"]

PASSWORD_VARIABLE = "RETRYSPOOL_SMTP_PASSWORD"  # noqa: S105 -- its name, not a password
"""Environment variable: the password for --smtp-user. On a command line anybody could read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The options of `work` that say where messages go."""

    handler: str | None = None
    command: str | None = None
    webhook: str | None = None
    smtp: str | None = None
    timeout_s: float | None = None
    connections: int = 8
    webhook_headers: tuple[tuple[str, str], ...] = ()
    webhook_secret_file: Path | None = None
    smtp_tls: Literal["off", "starttls", "implicit"] = "off"
    smtp_user: str | None = None


def make_handler(target: Target, environ: Mapping[str, str] = os.environ) -> Handle | None:
    """Return the handler, or None if nothing was named.

    :raises WrongUsageError: what was named isn't right, or is more than one thing
    """
    named = [target.handler, target.command, target.webhook, target.smtp]
    if sum(name is not None for name in named) > 1:
        msg = "messages go to one place: --handler, --exec, --webhook or --smtp"
        raise WrongUsageError(msg)
    if target.handler is not None:
        from retryspool_cli.handlers.function import load_handler

        return load_handler(target.handler)
    if target.command is not None:
        from retryspool_cli.handlers.command import CommandHandler

        return CommandHandler(target.command, timeout_s=target.timeout_s)
    if target.webhook is not None:
        return _webhook(target, target.webhook, environ)
    if target.smtp is not None:
        return _smtp(target, target.smtp, environ)
    return None


def _webhook(target: Target, url: str, environ: Mapping[str, str]) -> Handle:
    from retryspool_cli.handlers.signing import read_secrets
    from retryspool_cli.handlers.webhook import WebhookHandler

    try:
        signer = read_secrets(target.webhook_secret_file, environ)
    except (ValueError, OSError) as error:
        msg = f"signing webhooks: {error}"
        raise WrongUsageError(msg) from None
    try:
        return WebhookHandler(
            url,
            headers=dict(target.webhook_headers),
            signer=signer,
            timeout_s=target.timeout_s or 30.0,
            connections=target.connections,
        )
    except ValueError as error:
        msg = f"--webhook: {error}"
        raise WrongUsageError(msg) from None


def _smtp(target: Target, address: str, environ: Mapping[str, str]) -> Handle:
    from retryspool_cli.handlers.smtp import SmtpHandler, SmtpServer

    password = environ.get(PASSWORD_VARIABLE, "")
    if target.smtp_user and not password:
        msg = f"--smtp-user needs a password, in the environment variable {PASSWORD_VARIABLE}"
        raise WrongUsageError(msg)
    if target.smtp_user and target.smtp_tls == "off":
        msg = "--smtp-user would send the password for all to read: add --smtp-tls starttls or implicit"
        raise WrongUsageError(msg)
    default_port = {"off": 25, "starttls": 587, "implicit": 465}[target.smtp_tls]
    host, port = parse_address(address, default_port)
    server = SmtpServer(
        host,
        port,
        tls=target.smtp_tls,
        user=target.smtp_user or "",
        password=password,
        timeout_s=target.timeout_s or 60.0,
    )
    return SmtpHandler(server)


def parse_address(text: str, default_port: int) -> tuple[str, int]:
    """Return host and port of `mail.example.com:587` or `[::1]:25`.

    :raises WrongUsageError: it isn't one
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        valid = bool(bracket) and (not rest or rest.startswith(":"))
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
        valid = ":" not in port
    if not valid or not host or (port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536)):  # noqa: PLR2004 -- ports
        msg = f"{text!r} is not an address such as mail.example.com:587"
        raise WrongUsageError(msg)
    return host, int(port) if port else default_port


def stop_handler(handler: Handle | None) -> None:
    """Let a handler end what it still runs, and close its connections."""
    stop = getattr(handler, "stop", None)
    if callable(stop):
        stop()
