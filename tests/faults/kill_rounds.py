"""Kill processes that enqueue and that work, `kill -9`, at random moments, round after round; then audit the spool.

    python tests/faults/kill_rounds.py --rounds 100
    python tests/faults/kill_rounds.py --stalls --handling 0.1 --meta redis://localhost/0 --data fs:/tmp/payloads

Several processes enqueue into one spool, several work it off. Each writes a ledger: what was acknowledged to it, and
which handler began and ended when. In each round one of them is killed and another takes its place; or one that works
is frozen (`--stalls`) until its leases are over, and thawed: it goes on as if it still held its messages. In the end
what is left is worked off, and the ledgers must say that

- every acknowledged message was delivered, whole;
- none is left, and none is stuck after its lease;
- what was delivered twice was being delivered by a process when that was killed, or frozen for longer than a lease;
- a result that came after that was refused: what was settled was settled once.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from retryspool import Message, Outgoing, Queue, Severity
from retryspool.plugins import registry
from retryspool.queue import AsyncPayload

LEASE_S = 1.0
DRAIN_S = 60.0
SETTLING_S = 5.0
"""How long before the kill of its process a delivery may have begun that it had not settled yet."""


# -- what is killed ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where the spool is: in a folder, or in two stores."""

    folder: Path
    meta: str | None = None
    data: str | None = None
    handling_s: float = 0.003
    """How long a handler takes at most."""
    coroutines: bool = False
    """Whether handlers are, and many at once."""

    def open(self) -> Queue:
        where = {"meta": self.meta, "data": self.data} if self.meta else {"path": str(self.folder / "spool")}
        at_once = 50 if self.coroutines else 4
        options = {
            "lease_s": LEASE_S,
            "poll_s": 1,
            "concurrency": at_once,
            "batch_size": 20,
            "max_lost_deliveries": 1000,
        }
        return Queue.open(**where, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def arguments(self) -> list[str]:
        stores = ["--meta", self.meta, "--data", self.data] if self.meta and self.data else []
        kind = ["--coroutines"] if self.coroutines else []
        return ["--folder", str(self.folder), "--handling", str(self.handling_s), *kind, *stores]

    def destroy(self) -> None:
        if self.meta and self.data:
            registry.meta_factory_at(self.meta).destroy()
            registry.data_factory_at(self.data).destroy()


def open_ledger(path: Path) -> Callable[[str, str], None]:
    """Return what writes a line; what is written outlives the process."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    return lambda what, message_id: _write(fd, f"{time.monotonic():.6f} {what} {message_id}\n")


def _write(fd: int, line: str) -> None:
    os.write(fd, line.encode())


def enqueue(place: Place, ledger: Path) -> None:
    """Enqueue in each way that there is, for ever."""
    note = open_ledger(ledger)
    with place.open() as queue:
        for number in itertools.count():
            payload = os.urandom(random.choice((0, 10, 1000, 100_000 if place.coroutines else 20_000)))
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
            time.sleep(max(0.002, place.handling_s / 2))  # so that those who work can keep up


def work(place: Place, ledger: Path, *, until_idle: bool = False) -> None:
    """Work, for ever or until there's nothing left to do."""
    note = open_ledger(ledger)
    queue = place.open()

    def deliver(message: Message, payload: BinaryIO) -> None:
        note("begun", message.id)
        whole = hashlib.sha256(payload.read()).hexdigest() == message.headers["sha"]
        time.sleep(random.uniform(0, place.handling_s))
        note("delivered" if whole else "torn", message.id)

    async def deliver_in_a_loop(message: Message, payload: AsyncPayload) -> None:
        note("begun", message.id)
        whole = hashlib.sha256(await payload.read()).hexdigest() == message.headers["sha"]
        await asyncio.sleep(random.uniform(0, place.handling_s))
        note("delivered" if whole else "torn", message.id)

    queue.add_handler(deliver_in_a_loop if place.coroutines else deliver)
    counting = threading.Thread(target=_count_settled, args=(queue, note), daemon=True)
    counting.start()
    queue.run(until_idle=until_idle)
    counted = queue.counters.snapshot()
    note("settled", str(int(counted["delivered"])))
    note("refused", str(int(counted["lost_leases"])))
    queue.close()


def _count_settled(queue: Queue, note: Callable[[str, str], None]) -> None:
    """Note now and then how much was refused, for whoever is killed."""
    while True:
        threading.Event().wait(0.1)
        note("refused", str(int(queue.counters.snapshot()["lost_leases"])))


# -- who kills ---------------------------------------------------------------------------------------------------------


@dataclass
class Player:
    """A process, and what became of it."""

    role: str
    ledger: Path
    process: subprocess.Popen[bytes]
    killed: float | None = None
    frozen: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """From when to when."""


@dataclass
class Deliveries:
    """All that was delivered, by message: which process began when."""

    begun: dict[str, list[tuple[float, Player]]] = field(default_factory=lambda: defaultdict(list))
    done: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def start(role: str, place: Place, number: int) -> Player:
    ledger = place.folder / f"{role}-{number}.ledger"
    ledger.touch()
    command = [sys.executable, __file__, "--play", role, "--ledger", str(ledger), *place.arguments()]
    return Player(role, ledger, subprocess.Popen(command))


def play_rounds(place: Place, rounds: int, producers: int, workers: int, *, stalls: bool) -> list[Player]:
    """Kill one process a round, or freeze one; return all that ever were, the last ones killed too."""
    numbers = itertools.count()
    players = [start("enqueue", place, next(numbers)) for _ in range(producers)]
    players += [start("work", place, next(numbers)) for _ in range(workers)]
    alive = list(players)
    try:
        _wait_for_the_first(alive)
        for _ in range(rounds):
            time.sleep(random.uniform(0.02, 0.5))
            victim = random.choice(alive)
            if stalls and victim.role == "work":
                _freeze(victim)
                continue
            kill_player(victim)
            alive.remove(victim)
            alive.append(start(victim.role, place, next(numbers)))
            players.append(alive[-1])
    finally:
        for player in alive:
            kill_player(player)
    return players


def _wait_for_the_first(alive: list[Player]) -> None:
    until = time.monotonic() + DRAIN_S
    while not all(player.ledger.stat().st_size for player in alive):
        assert time.monotonic() < until, "nothing was enqueued and delivered"
        time.sleep(0.01)


def _freeze(player: Player) -> None:
    began = time.monotonic()
    player.process.send_signal(signal.SIGSTOP)
    time.sleep(random.uniform(1.2, 2) * LEASE_S)  # so long that others take over what it holds
    player.frozen.append((began, time.monotonic()))
    player.process.send_signal(signal.SIGCONT)


def kill_player(player: Player) -> None:
    assert player.process.poll() is None, f"{player.ledger.stem} ended by itself"
    player.process.kill()
    player.process.wait()
    player.killed = time.monotonic()


def lines(players: list[Player]) -> Iterator[tuple[float, str, str, Player]]:
    for player in players:
        for line in player.ledger.read_text().splitlines():
            moment, what, message_id = line.split(" ")
            yield float(moment), what, message_id, player


def audit(place: Place, players: list[Player]) -> list[str]:
    """Print the account; return what is wrong."""
    accepted: set[str] = set()
    deliveries = Deliveries()
    wrong: list[str] = []
    refused: dict[str, int] = {}
    for moment, what, message_id, player in sorted(lines(players), key=lambda line: line[0]):
        if what == "accepted":
            if message_id in accepted:
                wrong.append(f"{message_id} was accepted twice")
            accepted.add(message_id)
        elif what == "begun":
            deliveries.begun[message_id].append((moment, player))
        elif what == "delivered":
            deliveries.done[message_id] += 1
        elif what == "refused":
            refused[player.ledger.stem] = int(message_id)
        elif what != "settled":
            wrong.append(f"{message_id} was {what}")
    wrong += [f"{message_id} is lost" for message_id in accepted - deliveries.done.keys()]
    wrong += list(_unexcused(deliveries))
    with place.open() as queue:
        wrong += [f"{count} messages are left {state}" for state, count in queue.counts().items() if count]
        harmful = [finding for finding in queue.check() if finding.severity is not Severity.NOTICE]
        wrong += [f"check: {finding.subject} {finding.text}" for finding in harmful]
        wrong += payloads_left(queue)
    twice = sum(1 for count in deliveries.done.values() if count > 1)
    kills = defaultdict(int)
    for player in players:
        kills[player.role] += 1
    print(  # noqa: T201 -- the account
        f"killed: {kills['enqueue']} that enqueued, {kills['work']} that worked; "
        f"frozen {sum(len(player.frozen) for player in players)} times, {sum(refused.values())} late results refused; "
        f"accepted {len(accepted)}, delivered {len(deliveries.done)}, delivered twice {twice}, wrong {len(wrong)}"
    )
    return wrong


def _unexcused(deliveries: Deliveries) -> Iterator[str]:
    for message_id, begun in deliveries.begun.items():
        for moment, player in begun[:-1]:
            if not is_excused(moment, player):
                yield f"{message_id} was delivered again; {player.ledger.stem} was neither killed nor frozen over it"


def is_excused(moment: float, player: Player) -> bool:
    """Tell whether its process was killed, or frozen, over a delivery that began then."""
    was_killed = player.killed is not None and player.killed - moment <= SETTLING_S
    return was_killed or is_over(player.frozen, moment)


def is_over(frozen: Sequence[tuple[float, float]], moment: float) -> bool:
    """Tell whether one of these stalls may have come over a delivery that began then."""
    return any(began - SETTLING_S <= moment <= ended for began, ended in frozen)


def payloads_left(queue: Queue) -> list[str]:
    """Return what payloads are left in an empty spool, but for those of enqueues that were killed half way."""
    for _ in queue.reconcile(grace=timedelta(0)):
        pass  # orphan payloads: of enqueues that were killed between their two writes
    return [f"a payload is left: {info.message_id}" for info in queue.spool.data.iter_data()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--stalls", action="store_true", help="freeze those that work, in place of killing them")
    parser.add_argument("--handling", type=float, default=0.003, help="how long a handler takes at most, in seconds")
    parser.add_argument("--coroutines", action="store_true", help="handle messages by coroutines, 50 at once")
    parser.add_argument("--folder", type=Path, default=None, help="where ledgers and the spool are made; kept")
    parser.add_argument("--meta", help="a metadata store by URL; a namespace of it is used")
    parser.add_argument("--data", help="a data store by URL; a namespace of it is used")
    parser.add_argument("--play", choices=["enqueue", "work"], help=argparse.SUPPRESS)
    parser.add_argument("--ledger", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        place = Place(options.folder, options.meta, options.data, options.handling, options.coroutines)
        (enqueue if options.play == "enqueue" else work)(place, options.ledger)
        return 0
    if (options.meta is None) != (options.data is None):
        parser.error("--meta and --data go together")
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        namespace = f"k{secrets.token_hex(6)}"
        stores = [url and within(url, namespace) for url in (options.meta, options.data)]
        place = Place(folder, *stores, handling_s=options.handling, coroutines=options.coroutines)
        players = play_rounds(place, options.rounds, options.producers, options.workers, stalls=options.stalls)
        wrong = drain(place, players)
        wrong += audit(place, players)
        place.destroy()
    for each in wrong[:50]:
        print(each)  # noqa: T201 -- and what is wrong with it
    return 1 if wrong else 0


def within(url: str, namespace: str) -> str:
    """Return the URL of a namespace of a store."""
    return f"{url}{'&' if '?' in url else '?'}namespace={namespace}"


def the_last(folder: Path) -> Player:
    """Return a player for what is worked off here in the end: it has a ledger, and no process any more."""
    ledger = folder / "the-last.ledger"
    ledger.touch()
    process = subprocess.Popen(["true"])
    process.wait()
    return Player("work", ledger, process)


def drain(place: Place, players: list[Player]) -> list[str]:
    """Work off what is left, here; return what is wrong if there's no end to it."""
    rest = the_last(place.folder)
    players.append(rest)
    until = time.monotonic() + DRAIN_S
    with place.open() as queue:
        while time.monotonic() < until:
            work(place, rest.ledger, until_idle=True)
            if not any(queue.counts().values()):
                return []
            threading.Event().wait(LEASE_S / 5)  # for the leases of those that were killed
    return [f"the spool isn't empty after {DRAIN_S:.0f} s"]


if __name__ == "__main__":
    sys.exit(main())
