"""Hypothesis, as the suite uses it: with a seed that can be given again, and no files left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

__all__ = ["explore", "run_machine"]

Example = TypeVar("Example")

_CHECKS = (
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
)


def _settings(examples: int, steps: int = 50, *, shrink: bool = True) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,  # it would only find busy machines
        database=None,
        print_blob=False,
        phases=(Phase.explicit, Phase.generate, *((Phase.shrink,) if shrink else ())),
        suppress_health_check=_CHECKS,
    )


def explore(
    strategy: st.SearchStrategy[Example],
    check: Callable[[Example], None],
    *,
    examples: int,
    seed: int,
    shrink: bool = True,
) -> None:
    """Call `check` with so many examples, the same ones for the same seed.

    :param shrink: whether an example that fails is made small first, which takes minutes where the store is slow
    """

    @seeded(seed)
    @_settings(examples, shrink=shrink)
    @given(strategy)
    def run(example: Example) -> None:
        check(example)

    run()


def run_machine(
    make: Callable[[], RuleBasedStateMachine], *, runs: int, steps: int, seed: int, shrink: bool = True
) -> None:
    """Run a state machine so often, with so many steps each.

    :param shrink: whether a sequence that fails is made small, which takes minutes where a step takes long
    """
    machine = cast("type[RuleBasedStateMachine]", seeded(seed)(make))  # it calls it, and that's all
    run_state_machine_as_test(machine, settings=_settings(runs, steps, shrink=shrink))
