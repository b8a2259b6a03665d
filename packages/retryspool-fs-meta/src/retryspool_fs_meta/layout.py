"""Where things lie in the folder of a spool's records.

.. code-block:: text

    incoming/ active/ deferred/ hold/ bounce/ archived/
        <id>.json           a record; `.tmp.…` is one that is being written
    corrupt/                records that can't be read, as they were
    notes/
        <name>.txt          a note; a newline ends it
    .locks/                 locks, leases, hints, and a sign of life of each instance; may be removed while nobody works
"""

from __future__ import annotations

from retryspool.errors import InvalidMessageIdError
from retryspool.files import Directory, make_directory, refuse_case_folding, sync_above
from retryspool.ids import validate_message_id
from retryspool.model import State

__all__ = ["CORRUPT_FOLDER", "FOLDERS", "LOCKS_FOLDER", "NOTES_FOLDER", "SUFFIX", "Layout", "id_of"]

LOCKS_FOLDER = ".locks"
CORRUPT_FOLDER = "corrupt"
NOTES_FOLDER = "notes"
FOLDERS = (LOCKS_FOLDER, CORRUPT_FOLDER, NOTES_FOLDER, *(state.label for state in State))
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

    def __init__(self, base: str, *, dir_mode: int, sync: bool) -> None:
        self.base = base
        self.locks = f"{base}/{LOCKS_FOLDER}"
        for folder in FOLDERS:
            make_directory(f"{base}/{folder}", dir_mode, sync=sync)
        if sync:
            sync_above(self.locks)  # whoever made the folders may not have come to this
        Directory(self.locks, follow_symlinks=False).close()  # else locks and leases lay who knows where
        refuse_case_folding(self.locks)
        self.corrupt = Directory(f"{base}/{CORRUPT_FOLDER}", follow_symlinks=False)
        self.notes = Directory(f"{base}/{NOTES_FOLDER}", follow_symlinks=False)
        self.places = {state: Directory(f"{base}/{state.label}", follow_symlinks=False) for state in State}
        self._prefixes = {state: f"{directory.path}/" for state, directory in self.places.items()}

    def path(self, message_id: str, place: State) -> str:
        """Return where a message's record lies if it lies in this place."""
        return f"{self._prefixes[place]}{message_id}{SUFFIX}"

    def close(self) -> None:
        """Close the directories; may be called again."""
        for directory in (self.corrupt, self.notes, *self.places.values()):
            directory.close()
