"""The options and markers of RetrySpool's conformance suite, in every pytest run where `retryspool-core` is installed.

A module of its own beside the package, so that a run without a test of the suite imports nothing of RetrySpool.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

pytest.register_assert_rewrite("retryspool.conformance")

_PROPERTY = "retryspool_test"
_MARKS = {
    "retryspool_conformance(test)": "a test of RetrySpool's conformance suite: its clauses and its level",
    "retryspool_deviation(reason, issue)": "in what a backend doesn't keep the contract, and where that is followed up",
}
_report = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, all called --retryspool-…."""
    group = parser.getgroup("retryspool", "RetrySpool's conformance suite")
    group.addoption("--retryspool-meta", metavar="URL", help="the metadata backend to try, in namespaces of its own")
    group.addoption("--retryspool-data", metavar="URL", help="the data backend to try, in namespaces of its own")
    group.addoption("--retryspool-middleware", metavar="URL", help="the middleware to try, such as zstd:?level=3")
    group.addoption(
        "--retryspool-profile",
        choices=("quick", "ci", "nightly"),
        default="quick",
        help="how much: under a minute (the default), minutes, hours",
    )
    group.addoption(
        "--retryspool-level",
        metavar="LEVELS",
        default="core,concurrent,durable,network",
        help="which levels, separated by commas; all of them by default",
    )
    group.addoption(
        "--retryspool-clause", metavar="CLAUSES", help="only the tests of these clauses, such as META-14,META-15"
    )
    group.addoption(
        "--retryspool-report",
        metavar="FILE",
        action="append",
        default=[],
        help="write the report, clause by clause: JSON, or Markdown if it ends in .md; may be given again",
    )
    group.addoption(
        "--retryspool-seed", metavar="NUMBER", type=int, help="the seed of all that is random; the report tells it"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and choose a seed if none was given."""
    for mark, text in _MARKS.items():
        config.addinivalue_line("markers", f"{mark}: {text}")
    if config.option.retryspool_seed is None:
        given: dict[str, Any] = getattr(config, "workerinput", {})
        config.option.retryspool_seed = given.get("retryspool_seed", random.randrange(10**9))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give all worker processes of pytest-xdist the seed that the report tells."""
    node.workerinput["retryspool_seed"] = node.config.option.retryspool_seed


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what wasn't asked for."""
    if any(item.get_closest_marker("retryspool_conformance") for item in items):
        from retryspool.conformance.plugin import select  # noqa: PLC0415 -- only now is it needed

        select(config, items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put clause and level on the result of each test of the suite."""
    report = yield
    if item.get_closest_marker("retryspool_conformance"):
        from retryspool.conformance.plugin import describe  # noqa: PLC0415 -- only now is it needed

        describe(item, report)
    return report


class _Collector:
    """Collects the results where the terminal is: not in the workers of pytest-xdist."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        if _PROPERTY in properties:
            from retryspool.conformance.plugin import add_to_report, new_report  # noqa: PLC0415 -- only now is it needed

            stash = self._config.stash
            if _report not in stash:
                stash[_report] = new_report(self._config)
            add_to_report(stash[_report], report, properties)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if _report in self._config.stash:
            from retryspool.conformance.plugin import finish  # noqa: PLC0415 -- only now is it needed

            finish(self._config.stash[_report], self._config.option.retryspool_report, terminalreporter)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Collect results where all of them come together."""
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_Collector(session.config), "retryspool_collector")
