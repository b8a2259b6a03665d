"""The tree of errors: as printed, as pickled, as shown."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from retryspool import errors
from retryspool.errors import (
    BackendClosedError,
    BackendUnavailableError,
    CorruptDataError,
    DataExistsError,
    DataNotFoundError,
    DeadlineExceededError,
    MessageExistsError,
    MessageNotFoundError,
    PermanentError,
    RetryableError,
    RetrySpoolError,
    RouteError,
    StateConflictError,
    StorageError,
    raise_if_refused,
)
from retryspool.model import State


def printed() -> dict[str, tuple[str, str | None]]:
    """Read the tree in the module's docstring: each class, its parent, and the built-in one beside it."""
    tree: dict[str, tuple[str, str | None]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+Error)(?: \((\w+)\))?", line)
        if found is None:
            continue
        depth, name = len(found[1]), found[2]
        while above and above[-1][0] >= depth:
            above.pop()
        tree[name] = (above[-1][1] if above else "Exception", found[3])
        above.append((depth, name))
    return tree


def actual() -> dict[str, tuple[str, str | None]]:
    tree: dict[str, tuple[str, str | None]] = {}
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, RetrySpoolError) and not name.startswith("_"):
            parents = [base for base in kind.__mro__[1:] if not base.__name__.startswith("_")]
            ours = [base for base in parents if issubclass(base, RetrySpoolError)]
            beside = [base for base in parents if base not in ours and not any(issubclass(b, base) for b in ours[:1])]
            tree[name] = (ours[0].__name__ if ours else "Exception", beside[0].__name__ if beside else None)
    tree["RetrySpoolError"] = ("Exception", None)
    return tree


def test_the_tree_at_the_top_of_the_module_is_the_real_one() -> None:
    assert 25 <= len(printed())
    assert actual() == printed()


def test_every_error_of_the_tree_is_exported() -> None:
    assert set(printed()) == {name for name in errors.__all__ if name.endswith("Error")}


SAMPLES: list[RetrySpoolError] = [
    MessageNotFoundError("a1"),
    MessageExistsError("a1"),
    StateConflictError("a1", found=State.DEFERRED, expected=State.INCOMING),
    StateConflictError("a1", found=State.ACTIVE, found_version=4, expected_version=3),
    DataNotFoundError("a1"),
    DataExistsError("a1"),
    BackendClosedError(),
    DeadlineExceededError("too late"),
    BackendUnavailableError("no route to it", outcome="unknown"),
    CorruptDataError("a1", "it is shorter"),
    CorruptDataError("a1", "they are altered", part="headers"),
    RetryableError("slow down", after=2.5),
    RetryableError("full", concerns="message"),
    RouteError("429", after=30),
    PermanentError("gone", 410),
]


def everyone() -> Iterator[RetrySpoolError]:
    yield from SAMPLES
    made = {type(sample) for sample in SAMPLES}
    for name in printed():
        kind: type[RetrySpoolError] = getattr(errors, name)
        if kind not in made:
            yield kind("some text")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_crosses_to_another_process_whole(protocol: int) -> None:
    for error in everyone():
        error.add_note("seen in a test")

        other = pickle.loads(pickle.dumps(error, protocol))

        assert type(error) is type(other)
        assert (str(error), error.args, vars(error)) == (str(other), other.args, vars(other))


def test_an_error_can_be_copied() -> None:
    for error in everyone():
        for other in (copy.copy(error), copy.deepcopy(error)):
            assert (type(error), str(error), vars(error)) == (type(other), str(other), vars(other))


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        ("message 'a1' does not exist", SAMPLES[0]),
        ("message 'a1' exists already", SAMPLES[1]),
        ("message 'a1' is 'deferred', expected 'incoming'", SAMPLES[2]),
        ("message 'a1' has version 4, expected 3", SAMPLES[3]),
        ("message 'a1' has no payload", SAMPLES[4]),
        ("message 'a1' has a payload already", SAMPLES[5]),
        ("the backend is closed", SAMPLES[6]),
    ],
)
def test_an_error_says_what_was_asked_and_what_was_found(expected: str, error: RetrySpoolError) -> None:
    assert expected == str(error)


@pytest.mark.parametrize(("given", "expected"), [(2, 2.0), (0.5, 0.5), (timedelta(minutes=1), 60.0)])
def test_a_delay_is_given_in_seconds_or_as_a_timedelta(given: float | timedelta, expected: float) -> None:
    assert timedelta(seconds=expected) == RetryableError("later", after=given).after


def test_without_a_delay_the_policy_decides() -> None:
    assert RetryableError("later").after is None


@pytest.mark.parametrize("error", [BackendClosedError(), DeadlineExceededError("late")], ids=["closed", "late"])
def test_what_stands_for_a_whole_batch_is_raised(error: StorageError) -> None:
    with pytest.raises(type(error)):
        raise_if_refused(error)


def test_what_stands_for_one_of_a_batch_is_not_raised() -> None:
    for error in (MessageNotFoundError("a"), BackendUnavailableError("x", outcome="none")):
        raise_if_refused(error)
