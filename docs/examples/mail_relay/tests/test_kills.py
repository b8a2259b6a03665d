"""What was answered with 250 arrives, whatever is killed meanwhile."""

import itertools
import os
import signal
import smtplib
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from retryspool import Queue

from .relays import Relay, Sink

CLIENTS = 6
ROUNDS = 2


class Load:
    """Clients that send mail all the time, and note which were answered with 250."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self.accepted: set[str] = set()
        self._threads = [threading.Thread(target=self._send_all) for _ in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send_all(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError), self._relay.connect() as client:
                while not self._stop.is_set():
                    self._send(client)
            self._stop.wait(0.02)

    def _send(self, client: smtplib.SMTP) -> None:
        name = f"mail-{next(self._numbers)}"
        text = f"Subject: {name}\r\n\r\n{'x' * 70}\r\n" * 3
        client.sendmail("from@example.com", ["to@example.org"], text)
        self.accepted.add(name)


def claimed(spool: Path) -> set[str]:
    """Return the mails that a worker had when it was killed: no other has begun yet."""
    names: set[str] = set()
    for record in (spool / "meta" / "active").iterdir():
        for payload in (spool / "data").glob(f"*/{record.name[:36]}.data"):
            names.add(subject(payload.read_bytes()))
    return names


def subject(mail: bytes | None) -> str:
    return next(line for line in (mail or b"").decode().splitlines() if line.startswith("Subject: "))[9:]


@pytest.mark.timeout(120)
def test_each_mail_that_was_answered_with_250_arrives_whatever_process_is_killed(tmp_path: Path) -> None:
    in_flight: set[str] = set()
    with Sink() as sink, Relay(tmp_path / "spool", sink.port) as relay:
        load = Load(relay)
        load.start()
        for victim in ROUNDS * (0, 1, 2, None):  # two fronts, the worker, and the process that started them
            more_than = len(load.accepted) + 30
            relay.wait_for(lambda more_than=more_than: len(load.accepted) > more_than)
            relay.wait_for(lambda: 3 == len(relay.children()))
            if victim is None:
                relay.kill()
                in_flight |= claimed(relay.spool)
                relay.start()
            else:
                os.kill(relay.children()[victim], signal.SIGKILL)
                in_flight |= claimed(relay.spool)
        load.stop()
        with Queue.open(relay.spool) as queue:
            relay.wait_for(lambda: not sum(queue.counts().values()))
        assert 0 == relay.stop()

    arrived = Counter(subject(mail.original_content) for mail in sink.mails)
    assert len(load.accepted) > ROUNDS * 4 * 30
    assert set() == load.accepted - set(arrived), "answered with 250, and lost"
    assert set() == {name for name, count in arrived.items() if count > 1} - in_flight, "doubled without a reason"
