"""How much the suite does: the same tests, with other figures."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROFILES", "Profile"]

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The figures of one way to run the suite."""

    name: str
    examples: int
    """Inputs that each property is tried with."""
    model_runs: int
    model_steps: int
    """Sequences that are compared with the model, and the steps of each."""
    histories: int
    clients: int
    operations: int
    """Histories that are checked for linearizability, their clients, and the operations of each client."""
    races: int
    """How often a race for one payload is run."""
    racers: int
    """Threads of a race."""
    processes: int
    """Processes of a race."""
    messages: int
    """Messages that are raced for."""
    kills: int
    """How often a child is killed."""
    faults: int
    """How often each network fault is tried on each call."""
    restarts: int
    """How often the server is restarted."""
    payload_bytes: int
    """The size of a large payload."""


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(  # under a minute for one backend
            name="quick",
            examples=12,
            model_runs=12,
            model_steps=25,
            histories=6,
            clients=3,
            operations=12,
            races=4,
            racers=8,
            processes=2,
            messages=100,
            kills=3,
            faults=1,
            restarts=1,
            payload_bytes=24 * _MIB,
        ),
        Profile(  # a few minutes
            name="ci",
            examples=60,
            model_runs=100,
            model_steps=50,
            histories=100,
            clients=4,
            operations=25,
            races=8,
            racers=32,
            processes=4,
            messages=1_000,
            kills=25,
            faults=2,
            restarts=3,
            payload_bytes=64 * _MIB,
        ),
        Profile(  # hours
            name="nightly",
            examples=1_000,
            model_runs=5_000,
            model_steps=100,
            histories=5_000,
            clients=8,
            operations=40,
            races=100,
            racers=64,
            processes=16,
            messages=10_000,
            kills=1_000,
            faults=100,
            restarts=20,
            payload_bytes=1024 * _MIB,
        ),
    )
}
"""By name."""
