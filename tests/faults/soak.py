"""Days of work in miniature: many messages through workers, with faults on; then the account, and what has grown.

    python tests/faults/soak.py --messages 200000
    python tests/faults/soak.py --messages 20000 --meta redis --data pg

Several processes enqueue into one spool, several work it off; handlers fail now and then, for the moment or for good.
All the while one process or another is killed with `kill -9`, one that works is frozen until its leases are over, and
a server is killed or restarted: `--meta` and `--data` take the name of a server of the trial's own, `redis`, `pg` or
`s3`, or a URL, whose server is left alone. One process of each kind is spared: what these two hold, and what is in the
stores and at the servers, is sampled, and in its second half none of it may rise. Each process writes a ledger, and in
the end the ledgers must say that

- every acknowledged message was delivered, whole, or bounced as its handler said; none is left;
- what was delivered twice was in a process that was killed, or frozen for longer than a lease; or, in files, in one
  that waited that long for a lock of one that was frozen; or was enqueued twice because its first answer was lost;
- nothing is left over: no payload, no temporary file, no row, no more keys than a store has that is empty.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kill_rounds import Player, is_excused, is_over, kill_player, lines, payloads_left, the_last
from soak_figures import Figures, kind_of, of_files, of_process, of_server
from soak_players import LEASE_S, PATIENCE_S, WAITING, Place, enqueue, work

from retryspool import Queue, Severity
from retryspool_cli.servers import SERVERS, Server

ROLES = {"enqueue": "producer", "work": "worker"}


# -- who makes the faults ----------------------------------------------------------------------------------------------


@dataclass
class Soak:
    """A trial under way: its processes, servers and figures."""

    place: Place
    servers: Sequence[Server]
    messages: int
    pause_s: float
    """Between two faults, on average."""
    players: list[Player] = field(default_factory=list[Player])
    faults: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    figures: Figures = field(default_factory=Figures)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _read: dict[Path, int] = field(default_factory=dict[Path, int])
    _accepted: int = 0
    _frozen: dict[str, threading.Timer] = field(default_factory=dict[str, threading.Timer])
    """By the name of the process, what will thaw it."""

    def begin(self, role: str) -> Player:
        ledger = Path(self.place.folder) / f"{role}-{next(self._numbers)}.ledger"
        ledger.touch()
        command = [sys.executable, __file__, "--play", role, str(ledger), json.dumps(asdict(self.place))]
        player = Player(role, ledger, subprocess.Popen(command))
        self.players.append(player)
        return player

    def run(self, producers: int, workers: int) -> None:
        spared = [self.begin("enqueue"), self.begin("work")]
        others = [self.begin("enqueue") for _ in range(producers - 1)]
        others += [self.begin("work") for _ in range(workers - 1)]
        try:
            with self.place.open() as seen:
                self._disturb(spared, others, seen)
        finally:
            for timer in list(self._frozen.values()):
                timer.join()
            for player in (*spared, *others):
                player.process.kill()
            for player in (*spared, *others):
                player.process.wait()
                player.killed = time.monotonic()

    def _disturb(self, spared: Sequence[Player], others: list[Player], seen: Queue) -> None:
        said = time.monotonic()
        sampled = disturbed = heard = 0.0
        while (accepted := self._count_accepted()) < self.messages:
            now = time.monotonic()
            if accepted > heard:
                heard, said = accepted, now
            assert now - said < PATIENCE_S, f"nothing was accepted for {PATIENCE_S:.0f} s"
            for player in spared:
                assert player.process.poll() is None, f"{player.ledger.stem} ended by itself"
            if now >= sampled:
                self._sample(accepted, spared, seen)
                sampled = now + min(1.0, self.pause_s)
            if disturbed and now >= disturbed:
                self._disturb_once(others)
            if now >= disturbed:
                disturbed = time.monotonic() + self.pause_s * random.uniform(0.5, 1.5)
            time.sleep(0.05)

    def _count_accepted(self) -> int:
        """Return how many are acknowledged, by what the ledgers have more of since the last time."""
        for player in self.players:
            begin = self._read.get(player.ledger, 0)
            if player.role == "enqueue":
                with player.ledger.open("rb") as file:
                    file.seek(begin)
                    whole, newline, _ = file.read().rpartition(b"\n")
                self._accepted += whole.count(b" accepted ")
                self._read[player.ledger] = begin + len(whole) + len(newline)
        return self._accepted

    def _sample(self, accepted: int, spared: Sequence[Player], seen: Queue) -> None:
        values: dict[str, float] = {}
        for player in spared:
            values |= of_process(ROLES[player.role], player.process.pid)
        for server in self.servers:
            values |= of_server(server)
        for name in ("meta", "data"):
            folder = Path(self.place.folder) / name
            if folder.is_dir():
                values |= of_files(name, folder)
        values["spool: messages"] = sum(seen.counts().values())
        self.figures.add(accepted, values, {name: kind_of(name, WAITING) for name in values})

    def _disturb_once(self, others: list[Player]) -> None:
        number = random.randrange(3 + len(self.servers))
        if number >= 3:
            server = self.servers[number - 3]
            kill = random.random() < 0.5
            self.faults[f"times {server.title} {'killed' if kill else 'restarted'}"] += 1
            server.restart(kill=kill)
            return
        victim = random.choice([player for player in others if player.ledger.stem not in self._frozen])
        if victim.role == "work" and number == 0:
            self._freeze(victim)
            return
        kill_player(victim)
        self.faults[f"{ROLES[victim.role]}s killed"] += 1
        others.remove(victim)
        others.append(self.begin(victim.role))

    def _freeze(self, player: Player) -> None:
        """Freeze a process for so long that others take over what it holds.

        Another thread thaws it: this one may itself wait for a lock that the frozen one holds.
        """
        began = time.monotonic()
        self._frozen[player.ledger.stem] = timer = threading.Timer(
            random.uniform(1.1, 1.5) * LEASE_S, self._thaw, (player, began)
        )
        player.process.send_signal(signal.SIGSTOP)
        timer.start()
        self.faults["workers frozen"] += 1

    def _thaw(self, player: Player, began: float) -> None:
        player.process.send_signal(signal.SIGCONT)
        player.frozen.append((began, time.monotonic()))
        del self._frozen[player.ledger.stem]

    def drain(self) -> list[str]:
        """Work off what is left, here; return what is wrong if there's no end to it."""
        rest = the_last(Path(self.place.folder))
        self.players.append(rest)
        until = time.monotonic() + PATIENCE_S
        with self.place.open() as queue:
            while any(queue.counts().values()) and time.monotonic() < until:
                work(self.place, rest.ledger, until_idle=True)
                threading.Event().wait(LEASE_S / 10)  # for the leases of those that were killed
            left = {state.label: count for state, count in queue.counts().items() if count}
        return [f"the spool isn't empty after {PATIENCE_S:.0f} s: {left}"] if left else []


# -- the account -------------------------------------------------------------------------------------------------------


def account(soak: Soak) -> list[str]:
    """Print what became of all messages; return what is wrong."""
    accepted: set[str] = set()
    again: set[str] = set()
    attempts: dict[str, list[tuple[float, Player]]] = defaultdict(list)
    ended: dict[str, int] = defaultdict(int)
    failed = 0
    wrong: list[str] = []
    for moment, what, message_id, player in sorted(lines(soak.players), key=lambda line: line[0]):
        match what:
            case "accepted":
                accepted.add(message_id)
            case "again":
                again.add(message_id)
            case "begun":
                attempts[message_id].append((moment, player))
            case "done":
                ended[message_id] += 1
            case "failed":
                failed += 1
                own = [each for each in attempts[message_id] if each[1] is player]
                attempts[message_id].remove(own[-1])  # is tried again, as it should be
            case _:
                wrong.append(f"{message_id} was {what}")
    wrong += [f"{message_id} is lost" for message_id in accepted - ended.keys()]
    known = {message_id: begun for message_id, begun in attempts.items() if message_id not in again}
    unexcused, held_up = _delivered_again(soak, known)
    wrong += unexcused
    twice = sum(1 for count in ended.values() if count > 1)
    faults = ", ".join(f"{count} {name}" for name, count in sorted(soak.faults.items()))
    print(f"faults: {faults}")  # noqa: T201 -- the account
    print(  # noqa: T201 -- the account
        f"accepted {len(accepted)}, done {len(ended)}, failed on the way {failed}, "
        f"done twice {twice}, begun again by a lock {held_up}, enqueued again {len(again)}, wrong {len(wrong)}"
    )
    return wrong


def _delivered_again(soak: Soak, attempts: Mapping[str, Sequence[tuple[float, Player]]]) -> tuple[list[str], int]:
    """Return which messages were delivered again for no reason, and how many deliveries a lock may have held up."""
    wrong: list[str] = []
    held_up = 0
    frozen = [each for player in soak.players for each in player.frozen] if soak.place.meta.startswith("fs:") else []
    for message_id, begun in attempts.items():
        for moment, player in begun[:-1]:
            if is_excused(moment, player):
                continue
            if is_over(frozen, moment):
                held_up += 1
            else:
                wrong.append(f"{message_id} was delivered again; {player.ledger.stem} was not killed or frozen over it")
    return wrong, held_up


def leftovers(soak: Soak) -> list[str]:
    """Return what is left in the stores and shouldn't be."""
    with soak.place.open() as queue:
        wrong = [f"check: {each.subject} {each.text}" for each in queue.check() if each.severity is Severity.ERROR]
        wrong += payloads_left(queue)
    for name in ("meta", "data"):
        left = of_files(name, Path(soak.place.folder) / name)
        if left[f"{name}: temporary"] or left[f"{name}: files"] > 10:
            wrong.append(f"files are left: {left}")
    for server in soak.servers:
        values = of_server(server)
        wrong += [f"{name} left: {count:.0f}" for name, count in values.items() if _is_left(name, count)]
    return wrong


def _is_left(name: str, count: float) -> bool:
    """Tell whether it's more than an empty store has, and one who asks."""
    most = {"keys": 10, "rows": 10, "connections": 2}
    return count > most.get(name.partition(": ")[2], count)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--meta", default="fs", help="fs, redis, or a URL")
    parser.add_argument("--data", default="fs", help="fs, pg, s3, or a URL")
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--pause", type=float, default=2.0, help="between two faults, in seconds, on average")
    parser.add_argument("--fail", type=float, default=0.05, help="the share of deliveries that fail")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=None, help="where ledgers and the spool are made; kept")
    parser.add_argument("--play", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        role, ledger, place = options.play
        (enqueue if role == "enqueue" else work)(Place(**json.loads(place)), Path(ledger))
        return 0
    random.seed(options.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # whose processes and servers end with it
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        servers: list[Server] = []

        def url(name: str, what: str) -> str:
            if name == "fs":
                return f"fs:{folder / what}?sync=performance"
            if name in SERVERS:
                servers.append(stack.enter_context(SERVERS[name]()))
                return servers[-1].url
            return name

        place = Place(str(folder), url(options.meta, "meta"), url(options.data, "data"), options.fail)
        wrong = soaked(Soak(place, servers, options.messages, options.pause), options.producers, options.workers)
    for each in wrong[:50]:
        print(each)  # noqa: T201 -- and what is wrong with it
    return 1 if wrong else 0


def soaked(soak: Soak, producers: int, workers: int) -> list[str]:
    """Run it, and return what is wrong."""
    began = time.monotonic()
    soak.run(producers, workers)
    wrong = soak.drain()
    seconds = time.monotonic() - began
    wrong += account(soak)
    wrong += leftovers(soak)
    print(soak.figures.table())  # noqa: T201 -- the figures
    print(f"{seconds:.0f} s, load {os.getloadavg()[0]:.1f}, left over or wrong {len(wrong)}")  # noqa: T201 -- the end
    return wrong + soak.figures.growing()


if __name__ == "__main__":
    sys.exit(main())
