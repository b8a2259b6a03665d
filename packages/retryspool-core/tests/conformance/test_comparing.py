"""What is told of payloads that differ: where, and in short, however pytest is run."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from retryspool.conformance.comparing import assert_all_same, assert_same, difference

MIB = 1024 * 1024
LARGE = bytes(range(256)) * (3 * MIB // 256)


@pytest.mark.parametrize("same", [b"", b"x", LARGE, None, 7], ids=["empty", "small", "large", "none", "number"])
def test_what_is_the_same_does_not_differ(same: object) -> None:
    assert "" == difference(same, same)
    assert_same(same, same)
    assert_all_same({"a": same}, {"a": same})


def test_bytes_are_the_same_in_whatever_holds_them() -> None:
    assert_same(b"text", bytearray(b"text"))


@pytest.mark.parametrize("at", [0, 1, MIB - 1, MIB, 2 * MIB + 17, len(LARGE) - 1])
def test_the_first_byte_that_differs_is_told(at: int) -> None:
    found = LARGE[:at] + b"!" + LARGE[at + 1 :]

    assert difference(LARGE, found).startswith(f"differs at byte {at} of {len(LARGE)}: b'!")


@pytest.mark.parametrize(
    ("expected", "found", "told"),
    [
        (b"abcdef", b"abc", "has 3 bytes in place of 6, and differs from byte 3 on: b'' in place of b'def'"),
        (b"abc", b"abcdef", "has 6 bytes in place of 3, and differs from byte 3 on: b'def' in place of b''"),
        (b"abc", b"", "has 0 bytes in place of 3, and differs from byte 0 on: b'' in place of b'abc'"),
        (b"abcdef", b"aXc", "has 3 bytes in place of 6, and differs from byte 1 on: b'Xc' in place of b'bcdef'"),
        (LARGE, None, f"is None in place of {len(LARGE)} bytes"),
        (None, LARGE, f"is {len(LARGE)} bytes in place of None"),
        (b"1", "1", "is '1' in place of 1 bytes"),
        (3, 4, "is 4 in place of 3"),
    ],
)
def test_lengths_and_kinds_are_told(expected: object, found: object, told: str) -> None:
    assert told == difference(expected, found)


def test_the_error_names_what_was_found() -> None:
    with pytest.raises(AssertionError) as wrong:
        assert_same(b"one", b"two", "the payload of 'a'")

    assert "the payload of 'a' differs at byte 0 of 3: b'two' in place of b'one'" == str(wrong.value)


def test_of_many_each_that_is_wrong_is_named() -> None:
    with pytest.raises(AssertionError) as wrong:
        assert_all_same({"a": b"1", "b": b"2", "c": b"3"}, {"a": b"1", "b": b"x", "d": b"4"})

    assert [
        "payload 'b' differs at byte 0 of 1: b'x' in place of b'2'",
        "payload 'c' isn't there",
        "payload 'd' wasn't expected",
    ] == str(wrong.value).splitlines()


def test_of_very_many_some_are_named_and_all_counted() -> None:
    with pytest.raises(AssertionError) as wrong:
        assert_all_same({f"m{number}": LARGE for number in range(1000)}, {})

    assert ["payload 'm4' isn't there", "… 1000 in all"] == str(wrong.value).splitlines()[-2:]


def test_a_suite_that_finds_other_payloads_says_so_in_short(tmp_path: Path) -> None:
    """Run as it takes longest: pytest would compare all their lines with each other."""
    backend = """
        from retryspool.conformance import DataBackendSuite
        from retryspool.memory import MemoryData, MemoryDataFactory

        class Reversing(MemoryData):
            def store_data(self, message_id, data, *, if_absent=False):
                size = super().store_data(message_id, data, if_absent=if_absent)
                payload, time = self._shared.payloads[message_id]
                self._shared.payloads[message_id] = payload[:-100] + payload[-100:][::-1], time
                return size

        class Factory(MemoryDataFactory):
            def create(self):
                backend = super().create()
                backend.__class__ = Reversing
                return backend

        class TestReversing(DataBackendSuite):
            def factory(self, namespace):
                return Factory(f"reversing/{namespace}")

            def try_fixture(self, stores):
                pass
    """
    (tmp_path / "test_it.py").write_text(dedent(backend))
    plain = ("-c", os.devnull, "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(tmp_path))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *plain,
            "--retryspool-clause=DATA-3,DATA-6,DATA-11",
            "-vv",
            "--retryspool-seed=1",
            "test_it.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "CI": "true"},
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )

    assert 1 == done.returncode, done.stdout[-2000:]
    assert "differs at byte" in done.stdout
    assert MIB > len(done.stdout)
