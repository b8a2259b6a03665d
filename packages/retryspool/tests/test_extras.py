"""The extras of this distribution are all that it is."""

from importlib import metadata

import pytest

SIBLINGS = (
    *("retryspool-cli", "retryspool-compression", "retryspool-core", "retryspool-encryption"),
    *("retryspool-fs-data", "retryspool-fs-meta", "retryspool-otel", "retryspool-pg-data"),
    *("retryspool-redis-meta", "retryspool-s3-data"),
)


def brought_by(extra: str) -> set[str]:
    """Name the distributions that an extra adds, as a user's installer reads it from the built metadata."""
    lines = [line for line in metadata.requires("retryspool") or [] if line.endswith(f"extra == '{extra}'")]
    return {line.partition("~=")[0] for line in lines}


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("fs", {"retryspool-fs-data", "retryspool-fs-meta"}),
        ("redis", {"retryspool-redis-meta"}),
        ("pg", {"retryspool-pg-data"}),
        ("s3", {"retryspool-s3-data"}),
        ("compression", {"retryspool-compression"}),
        ("encryption", {"retryspool-encryption"}),
        ("otel", {"retryspool-otel"}),
        ("cli", {"retryspool-cli"}),
        ("all", set(SIBLINGS) - {"retryspool-core"}),
    ],
)
def test_an_extra_brings_the_siblings_that_it_names(extra: str, expected: set[str]) -> None:
    assert expected == brought_by(extra)


@pytest.mark.parametrize("sibling", SIBLINGS)
def test_a_sibling_that_an_extra_names_exists(sibling: str) -> None:
    assert metadata.version(sibling)


def test_it_installs_no_file_of_its_own() -> None:
    files = metadata.files("retryspool") or []

    assert [] == [file for file in files if ".dist-info" not in str(file) and file.suffix != ".pth"]
