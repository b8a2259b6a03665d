"""Moto as an S3 server, from `moto[server]`: with the errors and the manners of AWS."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar

from retryspool_cli.servers.bucket import BucketServer
from retryspool_cli.servers.wheels import find_package

__all__ = ["MotoServer"]


class MotoServer(BucketServer):
    """Moto's server. It keeps all in memory, so that a restart loses it, and takes any credentials."""

    title = "Moto"
    _ready_line: ClassVar[str] = "Running on http"

    def _prepare(self) -> None:
        for package in ("moto", "flask"):  # flask comes with the extra only
            find_package(package, server=self.title, requirement="moto[server]")

    def _command(self) -> Sequence[str]:
        return [sys.executable, "-m", "moto.server", "--host", self.host, "--port", str(self.port)]
