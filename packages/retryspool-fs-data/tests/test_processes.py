"""Several instances, threads and processes on one folder; forks; kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import processes

from retryspool.conformance.racing import race
from retryspool.errors import BackendError, DataExistsError, DataNotFoundError, StorageError
from retryspool_fs_data import FsDataBackend, FsDataFactory, shards

both_ways = pytest.mark.usefixtures("temporary_files")
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")


def in_a_fork(work: Callable[[], object]) -> str:
    """Run `work` in a forked child; return what it returned or raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = repr(work())
        except BaseException as error:  # noqa: BLE001 -- whatever it is, it is told
            answer = f"{type(error).__name__}: {error}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answers:  # noqa: PTH123 -- a descriptor
        answer = answers.read().decode()
    os.waitpid(child, 0)
    return answer


@both_ways
def test_of_many_instances_that_store_if_absent_one_wins(base: Path) -> None:
    backends = [FsDataFactory(base).create() for _ in range(8)]

    for round_ in range(20):
        message_id = f"m{round_}"
        results = race(8, lambda n, name=message_id: backends[n].store_data(name, b"%d" % n * 10, if_absent=True))
        assert 7 == sum(isinstance(result, DataExistsError) for result in results)
        winner = next(n for n, result in enumerate(results) if not isinstance(result, StorageError))
        assert {message_id: b"%d" % winner * 10} == backends[0].fetch_many([message_id], max_bytes=100)

    for backend in backends:
        backend.close()
    assert [] == list((base / ".tmp").iterdir())


def test_processes_that_empty_a_directory_do_not_hurt_those_that_fill_it(base: Path) -> None:
    with processes(4) as workers:
        for number, worker in enumerate(workers):
            worker.begin("data_works:store_and_delete", str(base), number)
        answers = [worker.line() for worker in workers]

    assert [""] * 4 == answers
    assert not (base / "ab").exists()


def test_threads_that_empty_a_directory_do_not_hurt_those_that_fill_it(
    backend: FsDataBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_TIDY_INTERVAL_S", 0.0)

    def work(number: int) -> None:
        for turn in range(30):
            backend.store_data(f"ab{number}", b"x", if_absent=bool(turn % 2))
            backend.delete_data(f"ab{number}")

    assert [None] * 8 == race(8, work)
    assert [] == list(backend.iter_data())


def test_readers_never_see_a_mix_while_a_payload_is_replaced(base: Path) -> None:
    with FsDataFactory(base, sync="performance").create() as writing, FsDataFactory(base).create() as reading:
        writing.store_data("abc", b"0" * 300_000)
        done = threading.Event()

        def replace() -> None:
            for number in range(200):
                writing.store_data("abc", b"%d" % (number % 10) * 300_000)
            done.set()

        thread = threading.Thread(target=replace)
        thread.start()
        while not done.is_set():
            with reading.get_data_reader("abc") as reader:
                content = reader.read(1)
                time.sleep(0)
                content += reader.read()
            assert 300_000 == len(content)
            assert 1 == len(set(content))
        thread.join()


@forks
def test_a_backend_is_not_usable_after_a_fork(backend: FsDataBackend, base: Path) -> None:
    backend.store_data("abc", b"x")

    for work in (
        lambda: backend.store_data("abd", b"y"),
        lambda: backend.get_data_reader("abc"),
        lambda: backend.delete_data("abc"),
        lambda: list(backend.iter_data()),
        lambda: backend.store_many([("abd", b"y")]),
    ):
        answer = in_a_fork(work)
        assert answer.startswith("BackendError"), answer
        assert "open a new one in this process" in answer
    assert "1" == in_a_fork(lambda: FsDataFactory(base).create().store_data("new", b"y"))

    assert {"abc": b"x", "new": b"y"} == backend.fetch_many(["abc", "abd", "new"], max_bytes=10)


@forks
@both_ways
def test_a_fork_does_not_hurt_what_its_parent_is_writing(base: Path) -> None:
    backend = FsDataFactory(base, sync="hybrid").create()
    backend.store_data("before", b"x")
    writer = backend.get_data_writer("abc")
    writer.write(b"x" * 200_000)

    def work() -> None:
        with pytest.raises(BackendError):
            writer.write(b"y" * 200_000)
        with pytest.raises(BackendError):
            writer.close()
        writer.abort()
        backend.close()

    assert "None" == in_a_fork(work)
    with FsDataFactory(base).create():  # sweeps what no living instance owns
        pass
    writer.close()

    assert {"abc": b"x" * 200_000} == backend.fetch_many(["abc"], max_bytes=200_000)
    backend.close()
    assert [] == list((base / ".locks").iterdir())


@forks
def test_a_reader_may_be_read_in_a_fork(backend: FsDataBackend) -> None:
    backend.store_data("abc", b"x")

    with backend.get_data_reader("abc") as reader:
        assert "b'x'" == in_a_fork(reader.read)


WRITER = """
    import os, sys
    from retryspool_fs_data import FsDataFactory, temporary

    if sys.argv[3] == "with names":
        temporary._can_do_without_names = lambda *_: False
    backend = FsDataFactory(sys.argv[1], sync=sys.argv[2]).create()
    number = 0
    while True:
        for size in (10, 200_000):
            number += 1
            backend.store_data(f"m{number}", b"%d/" % number * size, if_absent=number % 3 == 0)
            os.write(1, b"%d %d\\n" % (number, size))
            if number % 4 == 0:
                backend.store_data("replaced", b"%d/" % number * size)
"""


@pytest.mark.parametrize("names", ["with names", "without names"])
@pytest.mark.parametrize("mode", ["standard", "hybrid", "performance"])
def test_a_kill_loses_and_tears_nothing_and_its_leftovers_are_swept(base: Path, mode: str, names: str) -> None:
    for round_ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(base), mode, names], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(10 + 7 * round_)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()

        stored = {f"m{int(number)}": int(size) for number, size in (line.split() for line in lines if b"\n" in line)}
        with FsDataFactory(base).create() as backend:
            found = {info.message_id for info in backend.iter_data()}
            assert set(stored) <= found
            for message_id in found:
                with backend.get_data_reader(message_id) as reader:
                    content = reader.read()
                number = content.partition(b"/")[0]
                assert content in {number + b"/" + (number + b"/") * (size - 1) for size in (10, 200_000)}
                if message_id != "replaced":
                    assert message_id == f"m{number.decode()}"
    assert [] == list((base / ".tmp").iterdir())
    assert [] == list((base / ".locks").iterdir())


@both_ways
def test_opening_sweeps_only_what_no_living_instance_owns(base: Path) -> None:
    with FsDataFactory(base).create() as living:
        writer = living.get_data_writer("abc")
        writer.write(b"x" * 200_000)
        dead = base / ".tmp" / ".tmp.0123456789ab.0"
        dead.write_bytes(b"of a dead process")

        FsDataFactory(base).create().close()

        assert not dead.exists()
        writer.close()
        assert {"abc": b"x" * 200_000} == living.fetch_many(["abc"], max_bytes=200_000)


def test_a_sweep_that_fails_keeps_nobody_from_working(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    base.mkdir()
    (base / ".tmp").write_bytes(b"not a folder")

    with FsDataFactory(base).create() as backend, pytest.raises(DataNotFoundError):
        backend.get_data_reader("abc")

    assert "could not be swept" in caplog.text


def test_a_folder_that_was_removed_is_told(backend: FsDataBackend, base: Path) -> None:
    backend.store_data("abc", b"x")
    backend.delete_data("abc")
    for name in (".locks", ".tmp"):
        for file in (base / name).iterdir():
            file.unlink()
        (base / name).rmdir()
    (base / "ab").rmdir() if (base / "ab").exists() else None
    base.rmdir()

    with pytest.raises(BackendError, match="storing the payload of message 'abc'"):
        backend.store_data("abc", b"x")
