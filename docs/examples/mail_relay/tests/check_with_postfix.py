"""Try the relay with tools that weren't made for it: Postfix's smtp-source and smtp-sink, and swaks.

    python tests/check_with_postfix.py [--dir FOLDER] [--rounds 10]

Needs those (Debian: `apt-get install postfix swaks`) and to run as root, or with smtp-sink's user changed. First swaks
talks to the relay. Then smtp-source sends batches all the time, while each of the relay's processes is killed in turn,
a round being all of them; a batch whose smtp-source ends well was answered with 250 in all its mails. In the end what
smtp-sink has got is compared with that.
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Self

from relays import Relay, free_port

SENDERS = 4
SESSIONS = 5
BATCH = 25
SIZE = 4096
TOOLS = "/usr/sbin"
_RECIPIENT = re.compile(rb"(?:for <|X-Rcpt-Args: <)(\d+to@b\d+\.example)>")


class Batches:
    """smtp-source, again and again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        self.accepted: set[str] = set()
        """The recipients, one for each mail, of the batches that were answered well."""
        self.failed = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        while not self._stop.is_set():
            domain = f"b{next(self._numbers)}.example"
            done = subprocess.run(
                [
                    *(f"{TOOLS}/smtp-source", "-s", str(SESSIONS), "-m", str(BATCH), "-l", str(SIZE), "-N"),
                    *("-f", "from@example.com", "-t", f"to@{domain}", f"127.0.0.1:{self._port}"),
                ],
                capture_output=True,
                check=False,
            )
            if done.returncode:
                self.failed += 1
                self._stop.wait(0.1)
            else:
                self.accepted |= {f"{number}to@{domain}" for number in range(1, BATCH + 1)}


def talk(port: int) -> None:
    """Let swaks talk to the relay: what it's to say, and swaks's exit code for it."""
    plain = ["--from", "me@example.com", "--to", "swaks@b0.example"]
    for what, arguments, expected in (
        ("a mail", plain, 0),
        ("pipelined", [*plain, "--pipeline"], 0),
        ("the null sender", ["--from", "<>", "--to", "swaks@b0.example"], 0),
        ("three recipients", ["--from", "me@example.com", "--to", "a@b0.example,b@b0.example,c@b0.example"], 0),
        ("by HELO", [*plain, "--protocol", "SMTP"], 0),
        ("too large a mail", [*plain, "--body", "x" * 70 + ("\n" + "y" * 70) * 1000], 26),
        ("no domain", ["--from", "me@example.com", "--to", "nobody"], 24),
    ):
        done = subprocess.run(
            ["swaks", "--server", f"127.0.0.1:{port}", "--helo", "client.test", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != expected:
            raise SystemExit(f"swaks, {what}: ended with {done.returncode} in place of {expected}\n{done.stdout}")
        print(f"swaks, {what}: {'taken' if not expected else 'refused'}, as it should be")  # noqa: T201 -- what it's for


def recipient(mail: bytes) -> str | None:
    """Return for whom a mail of a batch is; None for any other mail."""
    match = _RECIPIENT.search(mail)
    return None if match is None else match[1].decode()


def check(folder: Path, rounds: int) -> bool:
    """Try all, print what came of it, and return whether it was well."""
    folder.chmod(0o755)
    arrived_in = folder / "arrived"
    arrived_in.mkdir(mode=0o777)
    arrived_in.chmod(0o777)
    sink_port = free_port()
    sink = [f"{TOOLS}/smtp-sink", "-u", "nobody", "-d", f"{arrived_in}/%H%M%S.", f"127.0.0.1:{sink_port}", "1000"]
    with subprocess.Popen(sink) as process:
        try:
            with Relay(folder / "spool", sink_port, "--size-limit=50000") as relay:
                talk(relay.port)
                with Batches(relay.port) as load:
                    in_flight = relay.kill_in_turn(rounds, load.accepted, SENDERS * BATCH, recipient)
                relay.wait_until_empty()
                relay.stop()
        finally:
            process.terminate()
    arrived = Counter(name for file in arrived_in.iterdir() if (name := recipient(file.read_bytes())))
    twice = {name for name, count in arrived.items() if count > 1}
    print(  # noqa: T201 -- what it's for
        f"| {4 * rounds} kills | {load.failed} batches cut off | {len(load.accepted)} mails answered with 250 "
        f"| {len(load.accepted - set(arrived))} lost | {len(twice)} twice | {len(twice - in_flight)} without a reason |"
    )
    return load.accepted <= set(arrived) and twice <= in_flight


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="where to put the spool, in a folder of its own")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mail-relay-", dir=options.dir) as scratch:
        sys.exit(0 if check(Path(scratch), options.rounds) else 1)
