"""Kill processes that enqueue and that work, `kill -9`, at random moments, round after round; then audit the spool.

    python tests/faults/kill_rounds.py --rounds 100

Several processes enqueue into one spool, several work it off. Each writes a ledger: what was acknowledged to it, and
which handler began and ended when. In each round one of them is killed and another takes its place. In the end what is
left is worked off, and the ledgers must say that

- every acknowledged message was delivered, whole;
- none is left, and none is stuck after its lease;
- what was delivered twice was being delivered by a process when that was killed.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from retryspool import Message, Outgoing, Queue

LEASE_S = 1.0
DRAIN_S = 60.0
SETTLING_S = 5.0
"""How long before the kill of its process a delivery may have begun that it had not settled yet."""


# -- what is killed ----------------------------------------------------------------------------------------------------


def open_queue(spool: Path) -> Queue:
    return Queue.open(spool, lease_s=LEASE_S, poll_s=1, concurrency=4, batch_size=20, max_lost_deliveries=1000)


def open_ledger(path: Path) -> Callable[[str, str], None]:
    """Return what writes a line; what is written outlives the process."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    return lambda what, message_id: _write(fd, f"{time.monotonic():.6f} {what} {message_id}\n")


def _write(fd: int, line: str) -> None:
    os.write(fd, line.encode())


def enqueue(spool: Path, ledger: Path) -> None:
    """Enqueue in each way that there is, for ever."""
    note = open_ledger(ledger)
    with open_queue(spool) as queue:
        for number in itertools.count():
            payload = os.urandom(random.choice((0, 10, 1000, 20_000)))
            headers = {"sha": hashlib.sha256(payload).hexdigest()}
            if number % 3 == 0:
                note("accepted", queue.enqueue(payload, headers=headers).id)
            elif number % 3 == 1:
                with queue.begin_enqueue(message_id=f"{ledger.stem}-{number}", headers=headers) as writer:
                    writer.write(payload[:7])
                    writer.write(payload[7:])
                note("accepted", writer.message_id)
            else:
                for record in queue.enqueue_many([Outgoing(payload=payload, headers=headers)] * 3):
                    assert not isinstance(record, Exception), record
                    note("accepted", record.id)
            time.sleep(0.002)  # so that those who work can keep up


def work(spool: Path, ledger: Path, *, until_idle: bool = False) -> None:
    """Work, for ever or until there's nothing left to do."""
    note = open_ledger(ledger)
    queue = open_queue(spool)

    @queue.handler
    def deliver(message: Message, payload: BinaryIO) -> None:
        note("begun", message.id)
        whole = hashlib.sha256(payload.read()).hexdigest() == message.headers["sha"]
        time.sleep(random.uniform(0, 0.003))
        note("delivered" if whole else "torn", message.id)

    queue.run(until_idle=until_idle)
    queue.close()


# -- who kills ---------------------------------------------------------------------------------------------------------


@dataclass
class Player:
    """A process, and what became of it."""

    role: str
    ledger: Path
    process: subprocess.Popen[bytes]
    killed: float | None = None


@dataclass
class Deliveries:
    """All that was delivered, by message: which process began when."""

    begun: dict[str, list[tuple[float, Player]]] = field(default_factory=lambda: defaultdict(list))
    done: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def start(role: str, folder: Path, number: int) -> Player:
    ledger = folder / f"{role}-{number}.ledger"
    ledger.touch()
    command = [sys.executable, __file__, "--play", role, "--folder", str(folder), "--ledger", str(ledger)]
    return Player(role, ledger, subprocess.Popen(command))


def play_rounds(folder: Path, rounds: int, producers: int, workers: int) -> list[Player]:
    """Kill one process a round; return all that ever were, the last ones killed too."""
    numbers = itertools.count()
    players = [start("enqueue", folder, next(numbers)) for _ in range(producers)]
    players += [start("work", folder, next(numbers)) for _ in range(workers)]
    alive = list(players)
    try:
        _wait_for_the_first(alive)
        for _ in range(rounds):
            time.sleep(random.uniform(0.02, 0.5))
            victim = random.choice(alive)
            _kill(victim)
            alive.remove(victim)
            alive.append(start(victim.role, folder, next(numbers)))
            players.append(alive[-1])
    finally:
        for player in alive:
            _kill(player)
    return players


def _wait_for_the_first(alive: list[Player]) -> None:
    until = time.monotonic() + DRAIN_S
    while not all(player.ledger.stat().st_size for player in alive):
        assert time.monotonic() < until, "nothing was enqueued and delivered"
        time.sleep(0.01)


def _kill(player: Player) -> None:
    assert player.process.poll() is None, f"{player.ledger.stem} ended by itself"
    player.process.kill()
    player.process.wait()
    player.killed = time.monotonic()


def lines(players: list[Player]) -> Iterator[tuple[float, str, str, Player]]:
    for player in players:
        for line in player.ledger.read_text().splitlines():
            moment, what, message_id = line.split(" ")
            yield float(moment), what, message_id, player


def audit(folder: Path, players: list[Player]) -> list[str]:
    """Print the account; return what is wrong."""
    accepted: set[str] = set()
    deliveries = Deliveries()
    wrong: list[str] = []
    for moment, what, message_id, player in sorted(lines(players), key=lambda line: line[0]):
        if what == "accepted":
            if message_id in accepted:
                wrong.append(f"{message_id} was accepted twice")
            accepted.add(message_id)
        elif what == "begun":
            deliveries.begun[message_id].append((moment, player))
        elif what == "delivered":
            deliveries.done[message_id] += 1
        else:
            wrong.append(f"{message_id} was {what}")
    wrong += [f"{message_id} is lost" for message_id in accepted - deliveries.done.keys()]
    wrong += list(_unexcused(deliveries))
    with open_queue(folder / "spool") as queue:
        wrong += [f"{count} messages are left {state}" for state, count in queue.counts().items() if count]
        wrong += [f"check: {finding.subject} {finding.text}" for finding in queue.check()]
        for _ in queue.reconcile(grace=timedelta(0)):
            pass  # orphan payloads: of enqueues that were killed between their two writes
        wrong += [f"a payload is left: {info.message_id}" for info in queue.spool.data.iter_data()]
    twice = sum(1 for count in deliveries.done.values() if count > 1)
    kills = defaultdict(int)
    for player in players:
        kills[player.role] += 1
    print(  # noqa: T201 -- the account
        f"killed: {kills['enqueue']} that enqueued, {kills['work']} that worked; accepted {len(accepted)}, "
        f"delivered {len(deliveries.done)}, delivered twice {twice}, wrong {len(wrong)}"
    )
    return wrong


def _unexcused(deliveries: Deliveries) -> Iterator[str]:
    for message_id, begun in deliveries.begun.items():
        for moment, player in begun[:-1]:
            if player.killed is None or player.killed - moment > SETTLING_S:
                yield f"{message_id} was delivered again, though {player.ledger.stem} wasn't killed over it"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=None, help="where the spool is made; kept")
    parser.add_argument("--play", choices=["enqueue", "work"], help=argparse.SUPPRESS)
    parser.add_argument("--ledger", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        (enqueue if options.play == "enqueue" else work)(options.folder / "spool", options.ledger)
        return 0
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        players = play_rounds(folder, options.rounds, options.producers, options.workers)
        wrong = drain(folder, players)
        wrong += audit(folder, players)
    for each in wrong[:50]:
        print(each)  # noqa: T201 -- and what is wrong with it
    return 1 if wrong else 0


def drain(folder: Path, players: list[Player]) -> list[str]:
    """Work off what is left, here; return what is wrong if there's no end to it."""
    rest = Player("work", folder / "the-last.ledger", subprocess.Popen(["true"]))
    rest.process.wait()
    players.append(rest)
    spool = folder / "spool"
    until = time.monotonic() + DRAIN_S
    with open_queue(spool) as queue:
        while time.monotonic() < until:
            work(spool, rest.ledger, until_idle=True)
            if not any(queue.counts().values()):
                return []
            threading.Event().wait(LEASE_S / 5)  # for the leases of those that were killed
    return [f"the spool isn't empty after {DRAIN_S:.0f} s"]


if __name__ == "__main__":
    sys.exit(main())
