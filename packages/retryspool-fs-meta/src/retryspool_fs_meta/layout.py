"""Where things lie in the folder of a spool's records.

.. code-block:: text

    incoming/ active/ deferred/ hold/ bounce/ archived/
        <id>.json           a record; `.tmp.…` is one that is being written
    corrupt/                records that can't be read, as they were
    .locks/                 locks, leases, hints, and a sign of life of each instance; may be removed while nobody works
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from retryspool.errors import BackendError, InvalidMessageIdError
from retryspool.files import Directory, make_directory, unlink_if_there
from retryspool.ids import validate_message_id
from retryspool.model import State

__all__ = ["CORRUPT_FOLDER", "LOCKS_FOLDER", "SUFFIX", "Layout", "id_of"]

LOCKS_FOLDER = ".locks"
CORRUPT_FOLDER = "corrupt"
SUFFIX = ".json"


def id_of(file_name: str) -> str | None:
    """Return the id of the message whose record has this name, None if it's no record's name."""
    if file_name.endswith(SUFFIX):
        try:
            return validate_message_id(file_name[: -len(SUFFIX)])
        except InvalidMessageIdError:
            pass
    return None


class Layout:
    """The open directories of a spool's records, made if they aren't there."""

    def __init__(self, base: Path, *, dir_mode: int, sync: bool) -> None:
        self.base = base
        for folder in (LOCKS_FOLDER, CORRUPT_FOLDER, *(state.label for state in State)):
            make_directory(base / folder, dir_mode, sync=sync)
        self.locks = str(base / LOCKS_FOLDER)
        self._refuse_case_folding()
        self.corrupt = Directory(base / CORRUPT_FOLDER, follow_symlinks=False)
        self.places = {state: Directory(base / state.label, follow_symlinks=False) for state in State}
        self._prefixes = {state: f"{directory.path}/" for state, directory in self.places.items()}

    def path(self, message_id: str, place: State) -> str:
        """Return where a message's record lies if it lies in this place."""
        return f"{self._prefixes[place]}{message_id}{SUFFIX}"

    def _refuse_case_folding(self) -> None:
        name = f"{self.locks}/case.{secrets.token_hex(6)}"
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            if os.path.lexists(f"{self.locks}/{Path(name).name.upper()}"):
                msg = f"{self.base} doesn't tell upper from lower case in names, so messages 'A' and 'a' would be one"
                raise BackendError(msg)
        finally:
            unlink_if_there(name)

    def close(self) -> None:
        """Close the directories; may be called again."""
        for directory in (self.corrupt, *self.places.values()):
            directory.close()
