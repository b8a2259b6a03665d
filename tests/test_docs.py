"""The documentation is true: its Python runs, its commands print what it shows, and nothing public is left out."""

from __future__ import annotations

import http.server
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import click
import pytest

import retryspool
from retryspool import QueueOptions, errors
from retryspool.data import DataBackend
from retryspool.files import FileSettings
from retryspool.meta import MetaBackend
from retryspool.middleware import Middleware
from retryspool.model import MessageMetadata
from retryspool.plugins import hookspecs
from retryspool.queue import Counters, Message
from retryspool_cli.commands.stats import StateJson
from retryspool_cli.main import SECTIONS, app
from retryspool_cli.records import RecordJson
from retryspool_fs_data import FsDataFactory
from retryspool_fs_meta import FsMetaFactory
from retryspool_fs_meta.codec import decode, encode

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("packages/*/README.md")])
}
BY_PAGE = pytest.mark.parametrize("page", PAGES)
DOCS = "\n".join(text for page, text in PAGES.items() if page.startswith("docs/"))
REFERENCE = PAGES["docs/command-line.md"]
COMMANDS = [name for entries in SECTIONS.values() for name in entries]
BIN = Path(sys.executable).parent
HOOK = "https://example.com/hook"
"""Where the pages deliver to: a server of the test's own stands in for it."""
MOST_NOT_RUN = 6
"""How many blocks of Python may say that they aren't run; three need a server, and run in their package's own tests."""


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, what it holds, where that begins, and the HTML comment above it."""

    language: str
    text: str
    line: int
    comment: str


def blocks(page: str, language: str = "") -> list[Block]:
    pattern = r"(?:^<!-- (?P<comment>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$"
    found = [
        Block(match["language"], match["text"], PAGES[page][: match.start("text")].count("\n"), match["comment"] or "")
        for match in re.finditer(pattern, PAGES[page], re.MULTILINE | re.DOTALL)
    ]
    return [block for block in found if not language or block.language == language]


def runs(block: Block) -> bool:
    return not block.comment.startswith(("not run: ", "from "))


def pages_with(language: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", [page for page in PAGES if any(map(runs, blocks(page, language)))])


# -- what is shown runs ------------------------------------------------------------------------------------------------

_START = """
import pathlib, urllib.request
def post(url, payload):
    return urllib.request.urlopen(urllib.request.Request(url, data=payload.read()))
given = {{"__name__": "__main__", "post": post}}
exec(compile(pathlib.Path("page.py").read_text(), "{page}", "exec"), given)
"""
"""Runs a page. The HTTP client is what the front page leaves to its reader."""


@contextmanager
def receiver() -> Iterator[tuple[str, list[bytes], threading.Event]]:
    """Run a server that takes whatever is posted; yields its URL, what it got, and whether it got anything."""
    bodies: list[bytes] = []
    posted = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            posted.set()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name in the base class
            del format, args

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", bodies, posted
        finally:
            server.shutdown()


def environment() -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RETRYSPOOL_")}
    return {
        **ours,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "120",
        "NO_COLOR": "1",
        "LC_ALL": "C.UTF-8",
    }


def program(page: str, hook: str) -> str:
    """Return the page's Python as one program, each line where it stands in the page, for the tracebacks."""
    lines = [""] * PAGES[page].count("\n")
    for block in filter(runs, blocks(page, "python")):
        for number, line in enumerate(block.text.splitlines()):
            lines[block.line + number] = line
    return "\n".join(lines).replace(HOOK, hook)


@BY_PAGE
def test_an_excerpt_is_that_of_its_file(page: str) -> None:
    for block in blocks(page, "python"):
        if block.comment.startswith("from "):
            source = (ROOT / "docs" / block.comment.removeprefix("from ").partition(":")[0]).read_text()
            assert [] == [part for part in block.text.strip("\n").split("\n\n") if part not in source]


@pages_with("python")
def test_the_python_of_a_page_runs_and_prints_what_it_shows(page: str, tmp_path: Path) -> None:
    shown = "".join(block.text for block in blocks(page) if block.comment == "prints")
    with receiver() as (hook, bodies, posted):
        source = tmp_path / "page.py"
        source.write_text(program(page, hook))
        start = _START.format(page=page)
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", start],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if page == "README.md":  # it runs until it is stopped
            posted.wait(20)
            process.send_signal(signal.SIGTERM)
        output, problems = process.communicate(timeout=40)

    assert (0, "") == (process.returncode, problems)
    assert shown == output
    if page == "README.md":
        assert [b"hello"] == bodies
        with retryspool.Queue.open(tmp_path / "spool") as queue:
            assert {0} == set(queue.counts().values())


def test_the_front_page_says_what_each_package_needs() -> None:
    for path in ROOT.glob("packages/*/pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        needed = {re.split(r"[^a-z0-9-]", each)[0] for each in project["dependencies"]} - {"retryspool-core"}
        row = re.search(rf"^\| \[`{project['name']}`\].*\| ([^|]*) \|$", PAGES["README.md"], re.MULTILINE)

        assert row, project["name"]
        assert needed == set(row[1].split(", ")) - {"the core"}


def test_few_blocks_of_python_are_not_run_and_each_says_why() -> None:
    excused = [block for page in PAGES for block in blocks(page, "python") if block.comment.startswith("not run: ")]

    assert len(excused) <= MOST_NOT_RUN
    assert all(len(block.comment) > len("not run: because") for block in excused)


MARK = "\x1e"


def shown_commands(page: str) -> list[tuple[str, str]]:
    """Return the commands of a page's consoles, and what is shown below each."""
    commands: list[tuple[str, str]] = []
    for block in filter(runs, blocks(page, "console")):
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            lines = part.splitlines(keepends=True)
            ends = next(number for number, line in enumerate(lines, 1) if not line.endswith("\\\n"))
            commands.append(("".join(lines[:ends]).rstrip("\n"), "".join(lines[ends:])))
    return commands


def as_pattern(shown: str) -> str:
    """Return what matches the output shown, where `…` stands for anything, on one line of its own for many lines."""
    text = re.escape(shown).replace("…\\\n", "…\n")
    text = re.sub(r"^…\n", "(?s:.*)", text, flags=re.MULTILINE)
    text = text.replace("…", ".*")
    return re.sub(r"(?:\\ ){2,}", " {2,}", text)  # a column is as wide as what is in it


@pytest.mark.timeout(180)  # some thirty commands, one after the other, perhaps beside many other tests
@pages_with("console")
def test_a_shown_command_prints_what_is_shown(page: str, tmp_path: Path) -> None:
    """Run a page's commands in one shell, one after the other; all succeed but those whose exit code is shown."""
    commands = shown_commands(page)
    mark = f"code=$?; printf '{MARK}%s{MARK}' $code; (exit $code)"
    with receiver() as (hook, _, _):
        script = "\n".join(f"{command}\n{mark}" for command, _ in commands).replace(HOOK, hook)
        output = subprocess.run(
            ["bash", "-c", f"exec 2>&1\n{script}"],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
            timeout=170,
            check=False,
        ).stdout
    results = re.findall(f"(.*?){MARK}(\\d+){MARK}", output, re.DOTALL)

    assert len(commands) == len(results), output
    for (command, shown), (printed, code), following in zip(
        commands, results, [*(command for command, _ in commands[1:]), ""], strict=True
    ):
        plain = re.sub(r" +$", "", printed, flags=re.MULTILINE)
        assert re.fullmatch(as_pattern(shown), plain), f"$ {command}\n{plain}"
        assert code == "0" or following == "echo $?", f"$ {command}\n{plain}\nexit code {code}"


@BY_PAGE
def test_a_command_that_is_mentioned_exists_with_its_options(page: str) -> None:
    spans = [*re.findall(r"`(retryspool [^`\n]+)`", PAGES[page])]
    for block in blocks(page):
        if block.language in {"sh", "console", "ini", "yaml", "dockerfile", "cron"}:
            spans += re.findall(r"\bretryspool (?:[^\n\\]|\\\n)+", block.text)
    for span in spans:
        match = re.match(r"retryspool (?:--(?:spool|meta|data|config) \S+ |-v+ )*([a-z]+)", span)
        if match is None:
            continue
        options = long_options(match[1]) | long_options(None)
        given = set(re.findall(r"(?<=\s)--[a-z][a-z-]+", span.split("|")[0].split("#")[0]))
        assert match[1] in COMMANDS, span
        assert set() == given - options, span


# -- nothing is left out -----------------------------------------------------------------------------------------------


def command(name: str | None) -> click.Command:
    if name is None:
        return app
    found = app.get_command(click.Context(app), name)
    assert found is not None, name
    return found


def long_options(name: str | None) -> set[str]:
    found = {option for each in command(name).params if isinstance(each, click.Option) for option in each.opts}
    return {option for option in found if option.startswith("--")} | {"--help"}


def section(name: str) -> str:
    """Return the command's section in the reference."""
    match = re.search(rf"^### `{name}`\n(.*?)(?=^##)", REFERENCE, re.MULTILINE | re.DOTALL)
    assert match, f"docs/command-line.md has no section about {name}"
    return match[1]


def test_the_reference_has_every_command() -> None:
    assert COMMANDS == re.findall(r"^### `([a-z]+)`$", REFERENCE, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_has_every_option_of_a_command(name: str) -> None:
    common = long_options(None) | {"--json"}
    if name in {"release", "retry", "bounce", "requeue", "set", "rm"}:  # described with the first that has them
        common |= long_options("hold")

    assert set() == {option for option in long_options(name) - common if f"`{option}" not in section(name)}


def test_the_reference_has_every_common_option() -> None:
    assert set() == {option for option in (long_options(None) | {"--json"}) if f"`{option}" not in REFERENCE}


def test_the_docs_name_every_error() -> None:
    classes = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}

    assert set() == {name for name in classes if f"`{name}`" not in PAGES["docs/guide.md"]}


def test_the_docs_name_every_option_of_the_queue_with_its_default() -> None:
    for each in fields(QueueOptions):
        default = f'"{each.default}"' if isinstance(each.default, str) else str(each.default)
        assert re.search(rf"^\| `{each.name}` \| `?{re.escape(default)}`? \|", PAGES["docs/guide.md"], re.MULTILINE), (
            each
        )


def test_the_docs_name_every_hook() -> None:
    hooks = [name for name in hookspecs.__all__ if name.startswith("retryspool_")]

    assert len(hooks) == 3
    assert [] == [name for name in hooks if f"`{name}`" not in DOCS]


@pytest.mark.parametrize(
    ("page", "factories"),
    [
        ("docs/guide.md", [FsMetaFactory, FsDataFactory]),
        ("packages/retryspool-fs-meta/README.md", [FsMetaFactory]),
        ("packages/retryspool-fs-data/README.md", [FsDataFactory]),
    ],
)
def test_the_docs_name_every_setting_of_files(page: str, factories: list[type[FileSettings]]) -> None:
    settings = {each.name for factory in factories for each in fields(factory)}

    assert settings >= {name for factory in factories for name in factory.url_settings}
    assert set() == {name for name in settings if f"| `{name}` |" not in PAGES[page]}


def test_the_docs_name_every_environment_variable() -> None:
    sources = "".join(path.read_text() for path in ROOT.glob("packages/*/src/**/*.py"))
    read = set(re.findall(r"\"(RETRYSPOOL_[A-Z_]*[A-Z])\"", sources))
    named = {f"RETRYSPOOL_{key}" for key in ("SPOOL", "META", "DATA")}  # built from their keys

    assert "RETRYSPOOL_PLUGINS" in read
    assert set() == {name for name in read | named if f"`{name}`" not in DOCS}


def test_the_docs_name_every_counter() -> None:
    assert [] == [name for name in Counters().snapshot() if f'"{name}"' not in PAGES["docs/guide.md"]]


def test_the_docs_name_everything_that_a_handler_is_given() -> None:
    given = {name for name in dir(Message) if not name.startswith("_")}

    assert set() == {name for name in given if not re.search(rf"`(?:message\.)?{name}`", PAGES["docs/guide.md"])}


@pytest.mark.parametrize("interface", [MetaBackend, DataBackend, Middleware])
def test_the_docs_name_every_method_of_a_backend(interface: type) -> None:
    methods = {name for name, _ in inspect.getmembers(interface, inspect.isfunction) if not name.startswith("_")}

    assert set() == {name for name in methods if f"`{name}`" not in PAGES["docs/backends.md"]}


def test_the_docs_name_every_bug_of_the_go_queue_with_a_test_that_there_is() -> None:
    source = (ROOT / "packages/retryspool-core/tests/queue/test_go_bugs.py").read_text()
    tests = set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
    named = re.findall(r"`(test_(\d\d)_\w+)`", PAGES["docs/bugs.md"].partition("\n## ")[0])

    assert tests == {name for name, _ in named}
    assert {f"{number:02}" for number in range(1, 16)} == {number for _, number in named}


def test_the_docs_name_every_bug_of_the_field_with_tests_that_there_are() -> None:
    table = PAGES["docs/bugs.md"].partition("\n## ")[2]
    rows = re.findall(r"^\| (\w[^|]*) \| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)[1:]  # without the head
    named = {bug: set(re.findall(r"`(test_\w+)`", tests)) for bug, _, tests in rows}
    sources = {path: path.read_text() for folder in ("packages", "tests") for path in ROOT.glob(f"{folder}/**/*.py")}
    there = set(re.findall(r"^ *def (test_\w+)", "".join(sources.values()), re.MULTILINE))
    ours = [text for path, text in sources.items() if path.name.startswith("test_field_")]

    assert 15 == len(named)
    assert [] == [bug for bug, tests in named.items() if not tests]
    assert set() == set().union(*named.values()) - there
    assert set() == set(re.findall(r"^def (test_\w+)", "".join(ours), re.MULTILINE)) - set().union(*named.values())


# -- what is shown is what there is ------------------------------------------------------------------------------------


def anchors(page: str) -> set[str]:
    prose = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@BY_PAGE
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page]):
        path, _, anchor = target.partition("#")
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(str(found.resolve().relative_to(ROOT))), target


def test_every_page_is_named_in_the_table_of_contents() -> None:
    pages = {Path(page).name for page in PAGES if page.startswith("docs/")} - {"README.md"}

    assert pages == set(re.findall(r"\]\((\w[\w-]*\.md)\)", PAGES["docs/README.md"]))


def test_the_record_that_is_shown_is_one() -> None:
    (shown,) = blocks("docs/files.md", "json")
    name = json.loads(shown.text)["ID"]

    record, found = decode(shown.text.encode(), name)

    assert shown.text == encode(record, found).decode()
    assert record.checksum == "3610a686"  # that of "hello"
    assert record.size == len("hello")


@pytest.mark.parametrize("page", ["docs/command-line.md", "packages/retryspool-cli/README.md"])
def test_the_json_that_is_shown_has_the_keys_that_there_are(page: str) -> None:
    (shown,) = [json.loads(block.text) for block in blocks(page, "json") if '"claimed_from"' in block.text]

    assert list(RecordJson.__annotations__) == list(shown)


def test_the_json_of_stats_has_the_keys_that_there_are() -> None:
    assert all(f'"{key}"' in section("stats") for key in StateJson.__annotations__)


def test_the_fields_of_a_record_on_disk_are_all_described() -> None:
    record = MessageMetadata("a", lease_owner="me", claimed_from=retryspool.State.INCOMING, route="r", checksum="0" * 8)
    names = json.loads(encode(record))

    assert [] == [name for name in names if f'"{name}"' not in PAGES["docs/files.md"] and f"`{name}`" not in DOCS]


@BY_PAGE
def test_a_page_is_one_that_can_be_read(page: str) -> None:
    text = PAGES[page]

    assert text.startswith("# ")
    assert text.endswith("\n")
    assert text.count("```") % 2 == 0
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", row))) for row in table.splitlines()}
        assert len(widths) == 1, table
