"""Files that survive: what every backend that stores to local files needs.

- `FileSettings`: the settings that they all have.
- `Durability`: when what is written reaches the disk, and what follows when it can't.
- `Directory`: an open directory whose names can be synced; `make_directory`: one that survives.
- `StripedLocks`: locks by key, between threads and between processes; `pause_after`: between two tries for one.
- `Holder`, `holders_of`, `advice`: who holds a lock, for errors that say what is to be done.
- `Presence`, `sweep_temporary_files`: temporary files, told from those that dead processes left behind.
"""

from retryspool.files.directory import (
    Directory,
    make_directory,
    network_file_system,
    refuse_case_folding,
    remove_folders,
    start_writeback,
    sync_above,
    unlink_if_there,
    write_all,
)
from retryspool.files.durability import Durability, SyncMode, disk_error, storage_error, wrapping_disk_errors
from retryspool.files.holders import Holder, advice, holders_of
from retryspool.files.locks import StripedLocks, pause_after
from retryspool.files.presence import TEMPORARY_PREFIX, Presence, sweep_temporary_files
from retryspool.files.settings import FileSettings

__all__ = [
    "TEMPORARY_PREFIX",
    "Directory",
    "Durability",
    "FileSettings",
    "Holder",
    "Presence",
    "StripedLocks",
    "SyncMode",
    "advice",
    "disk_error",
    "holders_of",
    "make_directory",
    "network_file_system",
    "pause_after",
    "refuse_case_folding",
    "remove_folders",
    "start_writeback",
    "storage_error",
    "sweep_temporary_files",
    "sync_above",
    "unlink_if_there",
    "wrapping_disk_errors",
    "write_all",
]
