"""How fast mail goes through the mail relay of docs/examples, beside Postfix: the same mails, same disk, in turns.

    python tests/benchmarks/bench_relay.py --dir /var/tmp --rounds 3 [--json]

Needs Postfix with its tools, smtp-source and smtp-sink (Debian: `apt-get install postfix`), and to be root, as Postfix
does. 5,000 mails of 4 KiB a round, 20 sessions at once, a connection for each mail. Both relay to the same smtp-sink,
Postfix with its own settings but for where it listens and relays to. Timed from the first connection until the last
mail has arrived.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import Row, faster, in_turns, run

ROOT = Path(__file__).parents[2]
MAILS = 5000
SESSIONS = 20
SIZE = 4096
TOOLS = "/usr/sbin"

MAIN_CF = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
myhostname = postfix.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
relayhost = [127.0.0.1]:{sink}
disable_dns_lookups = yes
local_transport = error:no
alias_maps =
maillog_file = {folder}/log
maillog_file_prefixes = /
"""


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something; complain if it doesn't come."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        threading.Event().wait(0.01)


def answers(port: int) -> bool:
    """Tell whether a mail server greets at a port."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as client:
            return client.recv(3) == b"220"
    except OSError:
        return False


@dataclass(frozen=True)
class Load:
    """The mails of one round, and where they end."""

    folder: Path
    mails: int
    sink: int
    """The port of smtp-sink."""

    def through(self, port: int) -> float:
        """Send all mails to a port, and return how long it took until the last had arrived."""
        counted = self.folder / "counted"
        sink = [f"{TOOLS}/smtp-sink", "-c", "-u", "nobody", f"127.0.0.1:{self.sink}", "1000"]
        source = [f"{TOOLS}/smtp-source", "-s", str(SESSIONS), "-m", str(self.mails), "-l", str(SIZE)]
        with counted.open("wb") as out, subprocess.Popen(sink, stdout=out) as process:
            try:
                wait_until(lambda: answers(self.sink), 10, "smtp-sink")
                start = time.perf_counter()
                subprocess.run(
                    [*source, "-f", "from@example.com", "-t", "to@example.org", f"127.0.0.1:{port}"], check=True
                )
                wait_until(lambda: self._arrived(counted) >= self.mails, 120, "the last mail")
                return time.perf_counter() - start
            finally:
                process.terminate()

    @staticmethod
    def _arrived(counted: Path) -> int:
        return max(map(int, re.findall(rb"mesg=(\d+)", counted.read_bytes()[-4096:])), default=0)


@contextmanager
def postfix(folder: Path, sink: int) -> Iterator[int]:
    """Run a Postfix of its own, and yield its port."""
    port = free_port()
    for name in ("etc", "queue", "data"):
        (folder / name).mkdir(parents=True)
    shutil.chown(folder / "data", "postfix")
    master = Path("/etc/postfix/master.cf.proto").read_text(encoding="utf-8")
    master = re.sub(r"(?m)^smtp +inet.*", f"127.0.0.1:{port} inet n - n - - smtpd", master)
    master = re.sub(r"(?m)^(\w+ +unix +[-yn] +[-yn] +)y ", r"\1n ", master)  # without chroot
    (folder / "etc" / "master.cf").write_text(master, encoding="utf-8")
    (folder / "etc" / "main.cf").write_text(MAIN_CF.format(folder=folder, sink=sink), encoding="utf-8")
    control = [f"{TOOLS}/postfix", "-c", str(folder / "etc")]
    subprocess.run([*control, "start"], check=True, capture_output=True)
    try:
        wait_until(lambda: answers(port), 10, "postfix")
        yield port
    finally:
        subprocess.run([*control, "stop"], check=False, capture_output=True)


@contextmanager
def relay(folder: Path, sink: int) -> Iterator[int]:
    """Run the relay as it comes, and yield its port."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mail_relay", f"--spool={folder}", f"--relay-host=127.0.0.1:{sink}"),
        *(f"--listen=127.0.0.1:{port}", "--hostname=relay.test"),
    ]
    source = str(ROOT / "docs" / "examples" / "mail_relay" / "src")
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": source}, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), 20, "the relay")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def measure(folder: Path, rounds: int) -> list[Row]:
    """Measure both in turns."""
    folder.chmod(0o755)  # Postfix's processes have users of their own
    load = Load(folder, MAILS, free_port())
    with postfix(folder / "postfix", load.sink) as theirs, relay(folder / "relay", load.sink) as ours:
        times = in_turns({"postfix": lambda: load.through(theirs), "relay": lambda: load.through(ours)}, rounds)
    return [faster("mail relay, 4 KiB, 20 sessions, against Postfix", times["postfix"], times["relay"], MAILS, "0.5 ×")]


if __name__ == "__main__":
    run(__doc__, measure)
