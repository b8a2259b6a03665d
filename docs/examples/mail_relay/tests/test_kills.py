"""What was answered with 250 arrives, whatever is killed meanwhile."""

import itertools
import smtplib
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

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


def subject(mail: bytes | None) -> str:
    return next(line for line in (mail or b"").decode().splitlines() if line.startswith("Subject: "))[9:]


@pytest.mark.timeout(120)
def test_each_mail_that_was_answered_with_250_arrives_whatever_process_is_killed(tmp_path: Path) -> None:
    with Sink() as sink, Relay(tmp_path / "spool", sink.port) as relay:
        load = Load(relay)
        load.start()
        in_flight = relay.kill_in_turn(ROUNDS, load.accepted, 30, subject)
        load.stop()
        relay.wait_until_empty()
        assert 0 == relay.stop()

    arrived = Counter(subject(mail.original_content) for mail in sink.mails)
    assert len(load.accepted) > ROUNDS * 4 * 30
    assert set() == load.accepted - set(arrived), "answered with 250, and lost"
    assert set() == {name for name, count in arrived.items() if count > 1} - in_flight, "doubled without a reason"
