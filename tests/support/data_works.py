"""What processes do to a folder of payloads: functions for `processes.Process`."""

from __future__ import annotations

from retryspool_fs_data import FsDataFactory, shards


def store_and_delete(path: str, number: int) -> str:
    """Fill and empty the same directory as others do, tidying it each time; return what went wrong."""
    shards._TIDY_INTERVAL_S = 0.0
    with FsDataFactory(path, sync="performance").create() as backend:
        for turn in range(400):
            name = f"ab{number}"
            backend.store_data(name, b"%d" % turn, if_absent=bool(turn % 2))
            with backend.get_data_reader(name) as reader:
                if reader.read() != b"%d" % turn:
                    return f"{name} is not what was stored"
            backend.delete_data(name)
    return ""
