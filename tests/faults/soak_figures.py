"""What a soak measures while it runs: of processes, of stores and of their servers; and whether it grows."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from redis import Redis

from retryspool_cli.servers import PostgresServer, RedisServer, Server

_MIB = 1 << 20
_ENOUGH = 20
"""Fewer samples than these tell nothing of growth."""


@dataclass(frozen=True)
class Kind:
    """How much the fitted line of a figure may rise over the second half: by a share of its mean, and by so much."""

    share: float = 0.0
    more: float = 0.0


MEMORY_MIB = Kind(0.05, 3)
HANDLES = Kind(0.05, 2)
"""Descriptors and threads: they come and go, by one or two."""
CONNECTIONS = Kind(0.25, 4)
"""They are few again after each restart of the server, and of a process."""


def backlog(most: int) -> Kind:
    """Return the kind of what there is of each message that waits: as many as may wait, at the most."""
    return Kind(0.0, 4 * most)


@dataclass
class Figure:
    """A figure, sampled while messages were accepted."""

    kind: Kind
    samples: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """How many messages had been accepted, and what it was then."""

    def add(self, accepted: int, value: float) -> None:
        self.samples.append((float(accepted), value))

    @property
    def second_half(self) -> list[tuple[float, float]]:
        last = self.samples[-1][0]
        return [(x, y) for x, y in self.samples if x >= last / 2]

    def slope(self) -> float:
        """Return by how much it rises with each message, by least squares over the second half."""
        half = self.second_half
        if len({x for x, _ in half}) < 2:
            return 0.0
        return statistics.linear_regression([x for x, _ in half], [y for _, y in half]).slope

    def rise(self) -> float:
        """Return by how much the line rises over the second half."""
        half = self.second_half
        return self.slope() * (half[-1][0] - half[0][0])

    @property
    def mean(self) -> float:
        return statistics.fmean(value for _, value in self.second_half)

    @property
    def is_flat(self) -> bool:
        return len(self.second_half) < _ENOUGH or self.rise() <= self.kind.more + self.kind.share * self.mean


class Figures(dict[str, Figure]):
    """All of them, by name."""

    def add(self, accepted: int, values: Mapping[str, float], kinds: Mapping[str, Kind]) -> None:
        for name, value in values.items():
            self.setdefault(name, Figure(kinds[name])).add(accepted, value)

    def table(self) -> str:
        """Return them as people read them."""
        head = f"{'':30}{'samples':>9}{'mean':>10}{'min':>9}{'max':>9}{'per 100,000':>13}  (second half)"
        lines = [head]
        for name, figure in self.items():
            values = [value for _, value in figure.second_half]
            spread = f"{figure.mean:>10.1f}{min(values):>9.1f}{max(values):>9.1f}"
            lines.append(
                f"{name:30}{len(values):>9}{spread}{figure.slope() * 100_000:>+13.2f}"
                f"{'' if figure.is_flat else '  GROWS'}"
            )
        return "\n".join(lines)

    def growing(self) -> list[str]:
        return [f"{name} grows" for name, figure in self.items() if not figure.is_flat]


# -- where they come from ----------------------------------------------------------------------------------------------


def of_process(name: str, pid: int) -> dict[str, float]:
    """Return what a process holds."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        f"{name}: RSS, MiB": int(fields["VmRSS"].split()[0]) * 1024 / _MIB,
        f"{name}: descriptors": len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208
        f"{name}: threads": int(fields["Threads"]),
    }


PROCESS_KINDS = {"RSS, MiB": MEMORY_MIB, "descriptors": HANDLES, "threads": HANDLES}


def of_files(name: str, folder: Path) -> dict[str, float]:
    """Return how many files there are, and how many of them are temporary."""
    names = [file for _, _, files in os.walk(folder) for file in files]
    return {f"{name}: files": len(names), f"{name}: temporary": sum(".tmp" in each for each in names)}


def of_server(server: Server) -> dict[str, float]:
    """Return what clients have left in a server that is ours alone."""
    asked: dict[type[Server], Callable[[str], dict[str, float]]] = {RedisServer: _of_redis, PostgresServer: _of_pg}
    ask = asked.get(type(server))
    return {} if ask is None else ask(server.url)


def _of_redis(url: str) -> dict[str, float]:
    with Redis.from_url(url) as client:
        connections = client.info("clients")["connected_clients"]
        memory = client.info("memory")["used_memory_dataset"]
        return {"Redis: keys": client.dbsize(), "Redis: connections": connections, "Redis: data, MiB": memory / _MIB}


def _of_pg(url: str) -> dict[str, float]:
    tables = "SELECT quote_ident(schemaname) || '.' || quote_ident(relname) FROM pg_stat_user_tables"
    clients = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    with psycopg.connect(f"postgresql{url.removeprefix('pg')}", autocommit=True) as connection:
        found = connection.execute(clients).fetchone()
        names = [name for (name,) in connection.execute(tables)]
        counts = [connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchone() for name in names]
    return {
        "PostgreSQL: connections": found[0] if found else 0,
        "PostgreSQL: rows": sum(count[0] for count in counts if count),
    }


def kind_of(name: str, most_waiting: int) -> Kind:
    """Return how a figure is judged, by the end of its name."""
    what = name.partition(": ")[2]
    if what in PROCESS_KINDS:
        return PROCESS_KINDS[what]
    if what in {"connections", "temporary"}:
        return CONNECTIONS if what == "connections" else Kind(0.05, 10)
    return MEMORY_MIB if what.endswith("MiB") else backlog(most_waiting)
