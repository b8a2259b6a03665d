"""A relay in processes of its own, and the server that it sends mail on to."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from retryspool import Queue

SOURCE = Path(__file__).parents[1] / "src"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait; that it never comes is found by the test's time limit."""
    while not condition():
        threading.Event().wait(0.02)


@dataclass
class Sink:
    """The next hop: takes mail, but what a test has told it to refuse."""

    refused: dict[str, str] = field(default_factory=dict)
    """Replies, by recipient."""
    mails: list[Envelope] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    smtputf8: bool = True

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.mails.append(envelope)
        return "250 OK"

    def __enter__(self) -> Self:
        self._controller = Controller(
            self, hostname="127.0.0.1", port=self.port, enable_SMTPUTF8=self.smtputf8, server_hostname="sink.test"
        )
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    def to(self, address: str) -> list[Envelope]:
        return [mail for mail in self.mails if address in mail.rcpt_tos]


class Relay:
    """The relay, as `python -m mail_relay` starts it."""

    def __init__(self, spool: Path, relay_port: int, *options: str) -> None:
        self.spool = spool
        self.port = free_port()
        self._options = [
            f"--spool={spool}",
            f"--relay-host=127.0.0.1:{relay_port}",
            f"--listen=127.0.0.1:{self.port}",
            "--hostname=relay.test",
            "--lease-s=2",
            "--retry-policy=fixed:0.2s",
            *options,
        ]
        self._log = spool.with_name("relay.log")

    def start(self) -> None:
        self.launch()
        self.wait_for(self._answers)

    def launch(self) -> None:
        """Start it, and don't wait until it takes mail."""
        path = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mail_relay", *self._options],
                env={**os.environ, "PYTHONPATH": path},
                stderr=log,
            )

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait as long as the relay runs."""

        def check() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"the relay has ended:\n{self.log}")
            return condition()

        wait_for(check)

    def _answers(self) -> bool:
        with suppress(OSError), self.connect() as client:
            return client.noop()[0] == 250
        return False

    def connect(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, "client.test", timeout=30)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def children(self) -> list[int]:
        """Return the numbers of the processes that it runs, fronts first."""
        task = Path(f"/proc/{self.process.pid}/task")
        running = [int(pid) for thread in task.iterdir() for pid in (thread / "children").read_text().split()]
        return sorted(running, key=_command)

    def kill(self) -> None:
        """Kill the process that was started; the others notice."""
        running = self.children()
        self.process.kill()
        self.process.wait()
        wait_for(lambda: not any(_runs(pid) for pid in running))

    def kill_in_turn(
        self, rounds: int, accepted: AbstractSet[str], more: int, name_of: Callable[[bytes], str | None]
    ) -> set[str]:
        """Kill two fronts, the worker, and the process that started them, in each round, while mail comes in.

        :param accepted: what has been answered with 250 until now
        :param more: before each kill, more than so many mails are answered
        :param name_of: tells a mail by its content
        :returns: the mails that a worker had when it was killed
        """
        in_flight: set[str] = set()
        for victim in rounds * (0, 1, 2, None):
            enough = len(accepted) + more
            self.wait_for(lambda enough=enough: len(accepted) > enough and len(self.children()) == 3)
            if victim is None:
                self.kill()
            else:
                os.kill(self.children()[victim], signal.SIGKILL)
            in_flight |= self._claimed(name_of)  # no other worker has begun yet
            if victim is None:
                self.start()
        return in_flight

    def _claimed(self, name_of: Callable[[bytes], str | None]) -> set[str]:
        mails: list[bytes] = []
        for record in (self.spool / "meta" / "active").iterdir():
            for file in (self.spool / "data").glob(f"*/{record.name[:36]}.data"):
                with suppress(FileNotFoundError):  # sent meanwhile, by a worker that goes on
                    mails.append(file.read_bytes())
        return {name for mail in mails if (name := name_of(mail))}

    def wait_until_empty(self) -> None:
        with Queue.open(self.spool) as queue:
            self.wait_for(lambda: not sum(queue.counts().values()))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(50)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
