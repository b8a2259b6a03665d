"""How fast payloads are stored in S3, against bare boto3, in turns in the same run.

python tests/benchmarks/bench_s3_data.py --dir /var/tmp [--json]

It starts a SeaweedFS of its own; S3_TEST_ENDPOINT names another bucket by its URL, s3://bucket?endpoint=…
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import boto3
from botocore.config import Config
from harness import Row, faster, in_turns, run

from retryspool.ids import new_message_id
from retryspool_cli.servers import S3Server
from retryspool_s3_data import S3DataFactory

MIB = 1024 * 1024
LARGE_MIB = 256
MEMORY_MIB = 64
SMALL_COUNT = 100


@contextmanager
def bucket(folder: Path) -> Generator[str]:
    """Yield the URL of a bucket."""
    given = os.environ.get("S3_TEST_ENDPOINT", "")
    if given.startswith("s3://"):
        yield given
    else:
        with S3Server(folder) as server:
            yield server.url


def bare(factory: S3DataFactory) -> Any:
    """Return boto3's client for the same bucket, with what it has by itself."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=factory.endpoint,
        region_name=factory.region,
        aws_access_key_id=factory.access_key,
        aws_secret_access_key=factory.secret_key,
        config=Config(s3={"addressing_style": cast("Any", factory.addressing)}),
    )


class Sink(io.RawIOBase):
    """A file that forgets what is written to it."""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any, /) -> int:
        """Take it."""
        return len(data)


def repeat(count: int, work: Callable[[], object]) -> Callable[[], None]:
    """Return the work that does `work` so often."""

    def rounds() -> None:
        for _ in range(count):
            work()

    return rounds


def measure_small(factory: S3DataFactory, rounds: int) -> list[Row]:
    """Measure payloads of 1 KiB."""
    client, content = bare(factory), os.urandom(1024)

    def key() -> str:
        return f"{factory.prefix}/{new_message_id()}.data"

    def get() -> None:
        client.get_object(Bucket=factory.bucket, Key=there)["Body"].read()

    def read() -> None:
        backend.get_data_reader("read").read()

    with factory.create() as backend:
        backend.store_data("read", content)
        there = f"{factory.prefix}/read.data"
        times = in_turns(
            {
                "put": repeat(SMALL_COUNT, lambda: client.put_object(Bucket=factory.bucket, Key=key(), Body=content)),
                "store": repeat(SMALL_COUNT, lambda: backend.store_data(new_message_id(), content)),
                "put if absent": repeat(
                    SMALL_COUNT,
                    lambda: client.put_object(Bucket=factory.bucket, Key=key(), Body=content, IfNoneMatch="*"),
                ),
                "store if absent": repeat(
                    SMALL_COUNT, lambda: backend.store_data(new_message_id(), content, if_absent=True)
                ),
                "many": lambda: void(backend.store_many([(new_message_id(), content) for _ in range(SMALL_COUNT)])),
                "get": repeat(SMALL_COUNT, get),
                "read": repeat(SMALL_COUNT, read),
            },
            rounds,
        )
    return [
        faster("1 KiB stored", times["put"], times["store"], SMALL_COUNT, "0.9 ×"),
        faster("1 KiB stored if absent", times["put if absent"], times["store if absent"], SMALL_COUNT, "0.9 ×"),
        faster(f"1 KiB, {SMALL_COUNT} by `store_many`", times["put"], times["many"], SMALL_COUNT, "–"),
        faster("1 KiB read", times["get"], times["read"], SMALL_COUNT, "0.9 ×"),
    ]


def void(_: object) -> None:
    """Return nothing: what a round returns is taken for its time."""


def measure_large(factory: S3DataFactory, rounds: int) -> list[Row]:
    """Measure a payload of 256 MiB, from a file in memory."""
    client, content = bare(factory), os.urandom(LARGE_MIB * MIB)
    key = f"{factory.prefix}/bare.data"

    def read() -> None:
        with backend.get_data_reader("large") as reader:
            while reader.read(MIB):
                pass

    with factory.create() as backend:
        times = in_turns(
            {
                "upload": lambda: client.upload_fileobj(io.BytesIO(content), factory.bucket, key),
                "store": lambda: void(backend.store_data("large", io.BytesIO(content))),
                "download": lambda: client.download_fileobj(factory.bucket, key, Sink()),
                "read": read,
            },
            rounds,
        )
    return [
        faster("256 MiB stored, in MiB", times["upload"], times["store"], LARGE_MIB, "0.9 ×"),
        faster("256 MiB read, in MiB", times["download"], times["read"], LARGE_MIB, "0.9 ×"),
    ]


def measure_memory(url: str) -> Row:
    """Measure by how much 256 MiB, stored and read, raise what a process takes at most."""
    script = """
        import sys
        from retryspool_s3_data import S3DataFactory

        def most():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

        with S3DataFactory.from_url(sys.argv[1]).in_namespace("memory").create() as backend:
            backend.store_data("warm", b"x")
            backend.get_data_reader("warm").read()
            before = most()
            backend.store_data("large", (b"x" * (1024 * 1024) for _ in range(256)))
            with backend.get_data_reader("large") as reader:
                while reader.read(1024 * 1024):
                    pass
            print(most() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), url]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    kib = int(ran.stdout)
    return Row(
        "256 MiB stored and read, extra memory",
        f"{MEMORY_MIB} MiB",
        f"{kib / 1024:.0f} MiB",
        kib / 1024 / MEMORY_MIB,
        "under 1 ×",
    )


def measure(folder: Path, rounds: int) -> list[Row]:
    """Measure all of it."""
    with bucket(folder) as url:
        factory = S3DataFactory.from_url(url).in_namespace("bench")
        large = measure_large(factory, max(3, rounds // 3))
        return [*measure_small(factory, rounds), *large, measure_memory(url)]


if __name__ == "__main__":
    run(__doc__, measure)
