"""What a backend and its writers share: the open folder, and whether it may be used."""

from __future__ import annotations

import os

from retryspool.deadline import check_deadline
from retryspool.errors import BackendClosedError, BackendError
from retryspool.files import FileSettings, make_directory, sync_above
from retryspool_fs_data.shards import Shards
from retryspool_fs_data.temporary import TemporaryFiles

__all__ = ["Store"]


class Store:
    """An open folder of payloads."""

    def __init__(self, settings: FileSettings) -> None:
        self.base = settings.folder
        self.durability = settings.durability()
        make_directory(self.base, settings.dir_mode, sync=self.durability.content)
        if self.durability.content:
            sync_above(self.base)  # whoever made it may not have done so, or not yet
        self.shards = Shards(self.base, dir_mode=settings.dir_mode, durability=self.durability)
        self.temporary = TemporaryFiles(self.base, dir_mode=settings.dir_mode, file_mode=settings.file_mode)
        self._pid = os.getpid()
        self._closed = False

    def check(self) -> None:
        """Do nothing while it may be used.

        :raises BackendClosedError: it was closed
        :raises BackendError: it came to this process by a fork
        :raises DeadlineExceededError: the time allowed is over
        """
        if self._closed:
            raise BackendClosedError("data backend")
        if os.getpid() != self._pid:
            raise BackendError(
                f"the data backend of {self.base!r} was opened by process {self._pid}, before a fork; "
                f"open a new one in this process, {os.getpid()}"
            )
        check_deadline()

    def check_writing(self) -> None:
        """Do nothing while it may be written; raises as `check()` does.

        :raises BackendUnavailableError: a sync has failed
        """
        self.check()
        self.durability.check()

    def close(self) -> None:
        """Let go of everything; may be called again.

        :raises BackendUnavailableError: names that waited to be synced could not be
        """
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._pid:  # the threads, the sign of life and the names to sync are all the parent's
            return
        self.shards.close()
        try:
            self.durability.close()
        finally:
            self.temporary.close()
