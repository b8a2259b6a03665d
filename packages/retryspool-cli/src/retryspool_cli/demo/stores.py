"""Where the demo's messages are: in files, at a server of the user's, or at a throw-away one."""

from __future__ import annotations

import json
import secrets
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from retryspool import Queue, RetrySpoolError
from retryspool.data import DataFactory
from retryspool.meta import MetaFactory
from retryspool.namespaces import split_namespace
from retryspool.plugins import data_factory_at, get_data_factory, get_meta_factory, meta_factory_at
from retryspool_cli.exits import WrongUsageError
from retryspool_cli.output import note
from retryspool_cli.servers import SERVERS, Server
from retryspool_cli.settings import CONFIG_FILE

__all__ = ["Stores", "open_stores"]

_FILES = "fs"

Kind = Literal["meta", "data"]


@dataclass(frozen=True, slots=True)
class Stores:
    """The URLs of one run's records and payloads, and the throw-away servers that keep them."""

    meta: str
    data: str
    servers: Sequence[Server] = ()

    def configure(self, folder: Path) -> None:
        """Write `retryspool.toml`, for the processes that work there: `ps` shows no password that way.

        A payload that can't be read because its server is down is soon tried again.
        """
        lines = (
            f"meta = {json.dumps(self.meta)}",
            f"data = {json.dumps(self.data)}",
            "[queue]",
            "unhandled_delay_s = 1",
        )
        (folder / CONFIG_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def open_queue(self) -> Queue:
        """Open them."""
        return Queue.open(meta=self.meta, data=self.data)


@contextmanager
def open_stores(folder: Path, meta: str, data: str, *, keep: bool = False) -> Generator[Stores]:
    """Yield stores that are empty, and remove them in the end.

    :param folder: for those in files: `meta` and `data` in it are a spool that `--spool` can name
    :param meta: a URL, or the name of a backend; a name stands for files in the folder, or for a throw-away server
    :param data: likewise
    :param keep: leave what's at the user's own servers
    :raises WrongUsageError: several processes can't share such a store, or there's no server for the name
    """
    with ExitStack() as stack:
        maker = _Maker(stack, folder, keep=keep)
        yield Stores(maker.make("meta", meta), maker.make("data", data), maker.servers)


class _Maker:
    def __init__(self, stack: ExitStack, folder: Path, *, keep: bool) -> None:
        self._stack = stack
        self._folder = folder
        self._keep = keep
        self._namespace = f"demo_{secrets.token_hex(6)}"
        self._started: dict[str, Server] = {}

    @property
    def servers(self) -> Sequence[Server]:
        return tuple(self._started.values())

    def make(self, kind: Kind, given: str) -> str:
        """Return the URL of an empty store that other processes can open too."""
        if given == _FILES:
            return f"fs:{quote(str(self._folder))}/{kind}"
        url = given if ":" in given else self._serve(kind, given)
        url, taken = split_namespace(url)
        if taken is not None:
            msg = f"--{kind} names the namespace {taken!r}; leave it out: the demo makes one of its own"
            raise WrongUsageError(msg)
        url = f"{url}{'&' if '?' in url else '?'}namespace={self._namespace}"
        factory = meta_factory_at(url) if kind == "meta" else data_factory_at(url)
        with factory.create() as backend:
            if not backend.capabilities.processes:
                msg = f"--{kind} {given}: the demo's workers are processes, and {factory.name} belongs to one alone"
                raise WrongUsageError(msg)
        if not self._keep and ":" in given:
            self._stack.callback(_destroy, factory)
        return url

    def _serve(self, kind: Kind, name: str) -> str:
        """Return the URL of the throw-away server for a backend that is installed."""
        _ = get_meta_factory(name) if kind == "meta" else get_data_factory(name)  # its error says what to install
        if name in SERVERS:
            if name not in self._started:
                note(f"starting {SERVERS[name].title}")
                self._started[name] = self._stack.enter_context(SERVERS[name]())
            return self._started[name].url
        if name == "memory":
            return "memory:demo"
        msg = f"--{kind} {name}: there's no throw-away server for it; give the URL of one that runs"
        raise WrongUsageError(msg)


def _destroy(factory: MetaFactory | DataFactory) -> None:
    try:
        factory.destroy()
    except (RetrySpoolError, OSError) as error:
        note(f"the demo's messages are left in {factory!r}: {error}")
