"""The extras of this distribution are all that it is."""

from importlib import metadata

import pytest


def brought_by(extra: str) -> set[str]:
    """Name the distributions that an extra adds, as a user's installer reads it from the built metadata."""
    lines = [line for line in metadata.requires("retryspool") or [] if line.endswith(f"extra == '{extra}'")]
    return {line.partition("~=")[0] for line in lines}


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("fs", {"retryspool-fs-data", "retryspool-fs-meta"}),
        ("cli", {"retryspool-cli"}),
        ("all", {"retryspool-cli", "retryspool-fs-data", "retryspool-fs-meta"}),
    ],
)
def test_an_extra_brings_the_siblings_that_it_names(extra: str, expected: set[str]) -> None:
    assert expected == brought_by(extra)


@pytest.mark.parametrize("sibling", ["retryspool-core", "retryspool-cli", "retryspool-fs-data", "retryspool-fs-meta"])
def test_a_sibling_that_an_extra_names_exists(sibling: str) -> None:
    assert metadata.version(sibling)


def test_it_installs_no_file_of_its_own() -> None:
    files = metadata.files("retryspool") or []

    assert [] == [file for file in files if ".dist-info" not in str(file) and file.suffix != ".pth"]
