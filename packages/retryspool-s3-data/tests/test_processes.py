"""What is carried over a fork, passed in, or closed."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from retryspool.errors import BackendClosedError, BackendError, StorageError
from retryspool_s3_data import S3DataFactory
from retryspool_s3_data.backend import S3DataBackend

MIB = 1024 * 1024
PART = 5 * MIB


def in_a_fork(work: Callable[[], bool]) -> bool:
    """Return whether it holds in a child of this process."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() else 1)
        except BaseException:  # noqa: BLE001 -- the child ends here, whatever happens
            os._exit(2)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def raises(work: Callable[[], object], text: str) -> bool:
    try:
        work()
    except BackendError as error:
        return text in str(error)
    return False


def boto3_client(factory: S3DataFactory) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=factory.endpoint,
        region_name=factory.region,
        aws_access_key_id=factory.access_key,
        aws_secret_access_key=factory.secret_key,
    )


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_backend_that_was_forked_has_a_client_of_its_own(backend: S3DataBackend) -> None:
    backend.store_data("a", b"x")
    client = backend._store.client

    def use() -> bool:
        backend.store_data("b", b"y")
        same = backend._store.client is client
        return not same and backend.fetch_many(["a", "b"], max_bytes=1) == {"a": b"x", "b": b"y"}

    assert in_a_fork(use)
    assert {"a": b"x", "b": b"y"} == backend.fetch_many(["a", "b"], max_bytes=1)
    assert client is backend._store.client


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_reader_that_was_forked_reads_over_a_connection_of_its_own(backend: S3DataBackend) -> None:
    content = os.urandom(4 * MIB)
    backend.store_data("a", content)
    reader: Any = backend.get_data_reader("a")
    raw = reader.raw
    first = bytearray(10)
    assert 10 == raw.readinto(first)

    assert in_a_fork(lambda: raw.readall() == content[10:])
    assert content == bytes(first) + raw.readall()
    reader.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_writer_that_was_forked_is_its_parents_alone(backend: S3DataBackend) -> None:
    writer = backend.get_data_writer("a")
    writer.write(b"x" * (PART + 1))

    def use() -> bool:
        refused = raises(writer.close, "before a fork")
        writer.__del__()
        return refused

    assert in_a_fork(use)
    writer.close()
    assert {"a": PART + 1} == {info.message_id: info.size for info in backend.iter_data()}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_client_that_was_passed_in_is_not_for_a_fork(factory: S3DataFactory) -> None:
    client = boto3_client(factory)
    with S3DataFactory(factory.bucket, prefix=factory.prefix, client=client).create() as backend:
        assert in_a_fork(lambda: raises(lambda: backend.store_data("a", b"x"), "passed in by process"))
        assert 1 == backend.store_data("a", b"x")
    client.close()


def test_a_client_that_was_passed_in_is_left_open_and_works_as_before(factory: S3DataFactory) -> None:
    client = boto3_client(factory)
    client.list_buckets()
    for _ in range(2):
        with S3DataFactory(factory.bucket, prefix=factory.prefix, client=client).create() as backend:
            backend.store_data("a", b"hello")
    key = {"Bucket": factory.bucket, "Key": f"{factory.prefix}/a.data"}

    assert b"hello" == client.get_object(**key)["Body"].read()
    client.put_object(**key, Body=b"", Metadata={"their": "own"})
    assert {"their": "own"} == client.head_object(**key)["Metadata"]
    client.close()


def test_closing_the_backend_closes_its_connections_but_for_open_readers(backend: S3DataBackend) -> None:
    content = os.urandom(4 * MIB)
    backend.store_data("a", content)
    reader = backend.get_data_reader("a")
    assert content[:10] == reader.read(10)
    backend.close()
    backend.close()

    with pytest.raises(BackendClosedError):
        backend.get_data_reader("a")
    with reader:
        assert content[10:] == reader.read()


def test_a_closed_backend_keeps_no_connection_and_no_client(seaweed: S3DataFactory) -> None:
    def sockets() -> int:
        return sum(descriptor.is_socket() for descriptor in Path("/dev/fd").iterdir())

    before = sockets()
    backend = seaweed.create()
    backend.store_data("a", b"x")
    client = weakref.ref(backend._store.client)
    assert before + 1 == sockets()

    backend.close()
    assert before == sockets()
    del backend
    gc.collect()
    assert client() is None


def test_each_backend_finds_the_credentials_of_its_own_time(
    seaweed: S3DataFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seaweed.access_key is not None
    assert seaweed.secret_key is not None
    found = replace(seaweed, access_key=None, secret_key=None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(BackendError, match="SignatureDoesNotMatch"):
        found.create()

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.secret_key)
    with found.create() as backend:
        assert 1 == backend.store_data("a", b"x")


def test_of_many_payloads_each_has_its_result(factory: S3DataFactory) -> None:
    with replace(factory, concurrency=3).create() as backend:
        backend.store_data("b", b"kept")
        items = [(f"m{number}", os.urandom(number)) for number in range(50)] + [
            ("b", b"x"),
            ("large", b"x" * (2 * PART)),
        ]

        results = backend.store_many(items, if_absent=True)

        assert [len(content) for _, content in items[:50]] == results[:50]
        assert isinstance(results[50], StorageError)
        assert 2 * PART == results[51]
        names = [name for name, _ in items]
        assert {**dict(items[:50]), "b": b"kept"} == backend.fetch_many(names, max_bytes=100)
        assert [None] * 52 == backend.delete_many(names)
        assert [] == list(backend.iter_data())
