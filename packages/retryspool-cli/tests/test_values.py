from datetime import UTC, datetime, timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retryspool import State
from retryspool_cli import values
from retryspool_cli.output import printable


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("500ms", 0.5),
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1w", 604800),
    ],
)
def test_durations_are_written_in_units(text: str, seconds: float) -> None:
    assert timedelta(seconds=seconds) == values.parse_duration(text)


@pytest.mark.parametrize("text", ["", "s", "1x", "-1s", "1 s", "1s2", "１s", "nan", "inf", "1e3", "9" * 400 + "d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        values.duration(text)


@given(st.timedeltas(min_value=timedelta(0)))
def test_every_duration_can_be_shown(duration: timedelta) -> None:
    assert values.duration_text(duration)


@given(st.text())
def test_what_is_shown_of_a_text_never_controls_a_terminal(text: str) -> None:
    assert printable(text).isprintable()
    printable(text).encode()


def test_a_time_is_a_date_or_a_duration_from_now() -> None:
    ahead = values.time("15m")

    assert timedelta(minutes=14) < ahead - datetime.now(UTC) <= timedelta(minutes=15)
    assert datetime(2030, 1, 31, 6, 0, tzinfo=UTC) == values.time("2030-01-31T08:00+02:00")
    assert values.past("1h") < datetime.now(UTC)


@pytest.mark.parametrize("text", ["soon", "", "9999999999d", "0001-01-01T00:00+14:00", "-5m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        values.time(text)


def test_the_states_are_those_of_the_model() -> None:
    assert tuple(state.label for state in State) == values.STATES


def test_a_header_may_hold_equals_signs() -> None:
    assert ("to", "a=b") == values.header("to=a=b")
    with pytest.raises(click.BadParameter):
        values.header("=x")


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**40, "5.0 TiB")])
def test_sizes_are_shown_in_units(size: int, text: str) -> None:
    assert text == values.size_text(size)
