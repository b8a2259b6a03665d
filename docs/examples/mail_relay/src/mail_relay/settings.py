"""What the relay is told on its command line."""

from __future__ import annotations

import argparse
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from retryspool_cli.exits import WrongUsageError
from retryspool_cli.handlers.session import Tls
from retryspool_cli.handlers.targets import parse_address

__all__ = ["Address", "Network", "Settings", "parse_settings"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Role = Literal["all", "front", "worker"]


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return what `mail.example.com`, `mail.example.com:587` or `[::1]:25` names.

        :raises WrongUsageError: it isn't an address
        """
        return cls(*parse_address(text, 25))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of the relay's settings. They are told at the command line by the same names: see `--help`."""

    spool: Path
    relay_host: Address
    listen: Address = Address("127.0.0.1", 2525)
    hostname: str = field(default_factory=socket.getfqdn)
    transports: tuple[tuple[str, Address], ...] = ()
    tls: Tls = "off"
    allow: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
    size_limit: int = 10_240_000
    max_recipients: int = 1000
    max_hops: int = 50
    max_sessions: int = 500
    max_waiting: int = 0
    min_free: int = 64 * 1024 * 1024
    fronts: int = 2
    workers: int = 1
    threads: int = 12
    concurrency: int = 40
    retry_policy: str = "exponential:5m,2,1h,jitter=0.2"
    max_attempts: int = 120
    lease_s: float = 60
    role: Role = "all"
    listen_fd: int = -1
    life_fd: int = -1

    def next_hop(self, recipient: str) -> Address:
        """Return where to send mail for a recipient: its domain's transport, else the relay host."""
        domain = recipient.rpartition("@")[2].lower()
        return dict(self.transports).get(domain, self.relay_host)


def parse_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Return the settings of a command line; print what is wrong with it, and end, if it isn't right."""
    given: dict[str, Any] = vars(_parser().parse_args(arguments))
    for repeated in ("transports", "allow"):
        if repeated in given:
            given[repeated] = tuple(given[repeated])
    return Settings(**given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mail-relay",
        description="Take mail in by SMTP, keep it in a spool, and send it on. 250 means: it's on the disk.",
        argument_default=argparse.SUPPRESS,
    )
    _add = parser.add_argument
    _add("--spool", type=Path, required=True, metavar="FOLDER", help="where mail is kept until it's sent on")
    _add("--relay-host", type=_address, required=True, metavar="HOST[:PORT]", help="where mail goes")
    _add(
        "--transport",
        dest="transports",
        action="append",
        type=_transport,
        metavar="DOMAIN=HOST[:PORT]",
        help="where mail for a domain goes instead; may be repeated",
    )
    _add("--tls", choices=get_args(Tls), help="how to talk to them [off]")
    _add("--listen", type=_address, metavar="HOST:PORT", help="[127.0.0.1:2525]")
    _add("--hostname", metavar="NAME", help="what the relay calls itself [the machine's name]")
    _add("--allow", action="append", type=_network, metavar="NETWORK", help="whose mail is taken [127.0.0.0/8 and ::1]")
    _add("--size-limit", type=int, metavar="BYTES", help="of a mail [10240000]")
    _add("--max-recipients", type=int, metavar="N", help="of a mail [1000]")
    _add("--max-hops", type=int, metavar="N", help="so many Received headers, and a mail goes in circles [50]")
    _add("--max-sessions", type=int, metavar="N", help="at once, of each front [500]")
    _add("--max-waiting", type=int, metavar="N", help="take no mail while so many wait to be sent; 0 for no limit [0]")
    _add("--min-free", type=int, metavar="BYTES", help="take no mail while less is free on the spool's disk [64 MiB]")
    _add("--fronts", type=int, metavar="N", help="processes that take mail [2]")
    _add("--workers", type=int, metavar="N", help="processes that send it [1]")
    _add("--threads", type=int, metavar="N", help="mails that a front stores at once [12]")
    _add("--concurrency", type=int, metavar="N", help="mails that a worker sends at once, 20 to one next hop [40]")
    _add("--retry-policy", metavar="POLICY", help="[exponential:5m,2,1h,jitter=0.2]")
    _add("--max-attempts", type=int, metavar="N", help="so many failures, and a mail bounces [120: five days]")
    _add("--lease-s", type=float, metavar="SECONDS", help="so long after a worker's death others take over [60]")
    for hidden, kind in (("--role", str), ("--listen-fd", int), ("--life-fd", int)):  # for the processes it starts
        _add(hidden, type=kind, help=argparse.SUPPRESS)
    return parser


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except WrongUsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _transport(text: str) -> tuple[str, Address]:
    domain, sign, address = text.partition("=")
    if not sign or not domain:
        raise argparse.ArgumentTypeError(f"{text!r} is not a transport such as example.com=mx.example.com:25")
    return domain.lower(), _address(address)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
