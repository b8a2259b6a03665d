"""Payloads that are compared: however large two are that differ, what is told of them is short.

Of `assert one == other` pytest would tell each line in which they differ, and take minutes to find those of some KiB.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["assert_all_same", "assert_same", "difference"]

_SHOWN_BYTES = 16
"""So much is shown of two payloads from where they differ."""
_NAMED = 5
"""So many messages are named whose payloads aren't what they should be."""


def assert_same(expected: object, found: object, what: str = "the payload") -> None:
    """Compare a payload, or None for none, with what was found.

    :param what: what was found, for the error
    :raises AssertionError: they differ; it says where
    """
    __tracebackhide__ = True  # what called it tells more
    wrong = difference(expected, found)
    if wrong:
        raise AssertionError(f"{what} {wrong}")


def assert_all_same(expected: Mapping[str, object], found: Mapping[str, object], what: str = "payload") -> None:
    """Compare payloads, or what else there's one of for each message, by their ids.

    :param what: what was found of each message, for the error
    :raises AssertionError: they differ; it says where
    """
    __tracebackhide__ = True  # what called it tells more
    both = [each for each in expected if each in found and expected[each] != found[each]]
    wrong = [
        *(f"{what} {each!r} {difference(expected[each], found[each])}" for each in both),
        *(f"{what} {each!r} isn't there" for each in expected if each not in found),
        *(f"{what} {each!r} wasn't expected" for each in found if each not in expected),
    ]
    if wrong:
        more = f"\n… {len(wrong)} in all" if len(wrong) > _NAMED else ""
        raise AssertionError("\n".join(wrong[:_NAMED]) + more)


def difference(expected: object, found: object) -> str:
    """Return in what something found differs from what was expected; nothing if it doesn't."""
    if expected == found:
        return ""
    if not isinstance(expected, bytes) or not isinstance(found, bytes):
        return f"is {_told(found)} in place of {_told(expected)}"
    at = _first_difference(expected, found)
    there = f"{found[at : at + _SHOWN_BYTES]!r} in place of {expected[at : at + _SHOWN_BYTES]!r}"
    if len(expected) == len(found):
        return f"differs at byte {at} of {len(found)}: {there}"
    return f"has {len(found)} bytes in place of {len(expected)}, and differs from byte {at} on: {there}"


def _told(value: object) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes) else f"{value!r:.100}"


def _first_difference(one: bytes, other: bytes) -> int:
    """Return how long a part both begin with."""
    same, most = 0, min(len(one), len(other))
    while same < most:
        middle = (same + most + 1) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same
