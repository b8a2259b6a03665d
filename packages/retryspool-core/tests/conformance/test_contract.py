"""The contract's page, its numbers in the code, and the tests that check them are one."""

import re
from pathlib import Path

import pytest

from retryspool.conformance import (
    CLAUSES,
    CONTRACT_VERSION,
    Clause,
    DataBackendSuite,
    MetaBackendSuite,
    MiddlewareSuite,
)
from retryspool.conformance.contract import is_binding
from retryspool.conformance.marks import Level, clauses_of

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "contract.md").read_text()
SUITE = ROOT / "packages" / "retryspool-core" / "src" / "retryspool" / "conformance"
VENDORS = (
    *("redis", "postgres", "psycopg", "sqlite", "mysql", "mongo", "etcd", "nats", "kafka", "rabbit"),
    *("s3", "boto", "moto", "minio", "seaweed", "aws", "azure", "google", "gcs", "ext4", "filesystem"),
)


def methods_of(suite: type) -> dict[str, object]:
    return {name: getattr(suite, name) for name in dir(suite) if name.startswith("test_")}


def test_the_page_has_every_clause_by_its_title_and_no_other() -> None:
    headings = dict(re.findall(r"^### ((?:META|DATA|FACTORY|MIDDLEWARE)-\d+) · (.+)$", PAGE, re.MULTILINE))

    assert {clause.id: clause.title for clause in CLAUSES.values()} == headings
    assert f"This is version **{CONTRACT_VERSION}** of the contract" in PAGE


def test_every_clause_on_the_page_says_something() -> None:
    sections = re.split(r"^### .+$", PAGE, flags=re.MULTILINE)[1:]

    assert [] == [section for section in sections if not section.strip()]


@pytest.mark.parametrize("suite", [MetaBackendSuite, DataBackendSuite, MiddlewareSuite], ids=["m", "d", "w"])
def test_every_test_has_a_clause(suite: type) -> None:
    assert [] == [name for name, test in methods_of(suite).items() if clauses_of(test) is None]


@pytest.mark.parametrize(("suite", "kind"), [(MetaBackendSuite, "META"), (DataBackendSuite, "DATA")], ids=["m", "d"])
def test_every_clause_has_a_test(suite: type, kind: str) -> None:
    marks = [mark for test in methods_of(suite).values() if (mark := clauses_of(test)) is not None]
    tested = {clause.id for mark in marks for clause in mark.clauses}

    assert [] == [each for each in CLAUSES if each.partition("-")[0] in {kind, "FACTORY"} and each not in tested]
    assert [] == [each for each in tested if each.partition("-")[0] not in {kind, "FACTORY"}]
    assert set(Level) == {mark.level for mark in marks}


def test_every_clause_of_middleware_has_a_test() -> None:
    marks = [mark for test in methods_of(MiddlewareSuite).values() if (mark := clauses_of(test)) is not None]

    assert {each for each in CLAUSES if each.startswith("MIDDLEWARE-")} == {
        clause.id for mark in marks for clause in mark.clauses
    }


def test_no_vendor_is_named_in_the_suite() -> None:
    words = re.compile(rf"(?<![a-z])({'|'.join(VENDORS)})(?![a-z0-9])", re.IGNORECASE)
    found = {
        f"{path.name}:{number}: {line}"
        for path in SUITE.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if words.search(line)
    }

    assert set() == found


@pytest.mark.parametrize(
    ("since", "declared", "binding"), [("1.1", "1.1", True), ("1.1", "1.0", False), ("1.0", "0.9", True)]
)
def test_a_clause_of_the_newest_version_only_warns_who_was_there_before(
    since: str,
    declared: str,
    binding: bool,  # noqa: FBT001
) -> None:
    assert "1.1" == CONTRACT_VERSION, "choose the examples anew"
    assert binding == is_binding(Clause("META-0", "", since), declared)
