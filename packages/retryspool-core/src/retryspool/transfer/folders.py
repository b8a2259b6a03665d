"""Reading messages from folders: of plain files, of an export, of a queue by states, and Maildirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from retryspool.errors import InvalidMessageIdError, InvalidMetadataError, InvalidOptionError
from retryspool.ids import validate_message_id
from retryspool.model import MessageMetadata, State
from retryspool.transfer.found import Aside, Found, document_beside, files_in, id_of, open_file, plain
from retryspool.transfer.postfix import is_postfix_queue, read_postfix_file

__all__ = ["DATA_SUFFIX", "DOCUMENTS", "DOCUMENT_SUFFIX", "read_files", "read_maildir", "read_queue_folder"]

DATA_SUFFIX = ".data"
DOCUMENT_SUFFIX = ".json"
DOCUMENTS = "retryspool"
"""The folder in a Maildir with the documents of its messages; mail programs take no notice of it."""

_STATES = {
    "maildrop": State.INCOMING,
    "incoming": State.INCOMING,
    "active": State.INCOMING,
    "deferred": State.DEFERRED,
    "hold": State.HOLD,
    "bounce": State.BOUNCE,
    "archived": State.ARCHIVED,
}
"""What the folders of a queue are called, and the states of their messages here."""
_LOGS = ("bounce", "archived")
"""Which of them Postfix has no messages in: the first holds its notes for reports."""


def read_files(folder: Path, template: MessageMetadata, *, deep: bool = False) -> Iterator[Found | Aside]:
    """Yield a folder's files as messages, by their names; an export's, `<id>.data` with `<id>.json`, as they were.

    :param deep: those of folders in it as well; a name that isn't at the top gets a suffix, to be another's nowhere
    """
    for path in files_in(folder, deep=deep):
        if isinstance(path, Aside):
            yield path
        elif path.suffix == DOCUMENT_SUFFIX and path.with_suffix(DATA_SUFFIX).is_file():
            continue  # comes with its payload
        elif path.suffix == DATA_SUFFIX and path.with_suffix(DOCUMENT_SUFFIX).is_file():
            yield _exported(path)
        else:
            name = str(path.relative_to(folder))
            message_id = id_of(name, unique="/" not in name)
            yield Found(plain(template, message_id, name), partial(open_file, path))


def _exported(path: Path) -> Found | Aside:
    message_id = path.name.removesuffix(DATA_SUFFIX)
    try:
        record = document_beside(path.with_suffix(DOCUMENT_SUFFIX), validate_message_id(message_id))
    except (InvalidMessageIdError, InvalidMetadataError) as error:
        return Aside(str(path), str(error))
    if record is None:
        return Aside(str(path), "its document is gone")
    return Found(record, partial(open_file, path), exact=True)


def read_queue_folder(folder: Path, template: MessageMetadata) -> Iterator[Found | Aside]:
    """Yield the messages of a queue whose states are folders, `incoming/`, `deferred/`, `hold/` …, as Postfix has them.

    Folders in these are descended into; what a file is called is the message's id, whichever of them it's in. Of
    Postfix's own files the mails are read, with their envelopes; others are taken as they are.

    :raises InvalidOptionError: it has no such folder
    """
    states = {name: state for name, state in _STATES.items() if not (is_postfix_queue(folder) and name in _LOGS)}
    there = [name for name in states if (folder / name).is_dir() and not (folder / name).is_symlink()]
    if not there:
        msg = f"{folder}: no queue: it has none of the folders {', '.join(_STATES)}"
        raise InvalidOptionError(msg)
    for name in there:
        for path in files_in(folder / name, deep=True):
            if isinstance(path, Aside):
                yield path
            else:
                state = template.state if template.state is not State.INCOMING else states[name]
                yield _queued(path, replace(plain(template, id_of(path.name), path.name), state=state))


def _queued(path: Path, record: MessageMetadata) -> Found | Aside:
    try:
        return read_postfix_file(path, record) or Found(record, partial(open_file, path))
    except OSError as error:
        return Aside(str(path), error.strerror or str(error))


def read_maildir(folder: Path, template: MessageMetadata) -> Iterator[Found | Aside]:
    """Yield the messages of a Maildir, new and seen, by their unique names; flags are ignored, `tmp/` is not looked at.

    :raises InvalidOptionError: it isn't a Maildir
    """
    if not (folder / "new").is_dir() or not (folder / "cur").is_dir():
        msg = f"{folder}: no Maildir: new/ or cur/ is missing"
        raise InvalidOptionError(msg)
    for part in ("new", "cur"):
        for path in files_in(folder / part, deep=False):
            yield path if isinstance(path, Aside) else _mail(folder, path, template)


def _mail(folder: Path, path: Path, template: MessageMetadata) -> Found | Aside:
    name = path.name.partition(":2,")[0]
    message_id = id_of(name)
    try:
        record = document_beside(folder / DOCUMENTS / f"{message_id}{DOCUMENT_SUFFIX}", message_id)
    except InvalidMetadataError as error:
        return Aside(str(path), str(error))
    if record is None:
        return Found(plain(template, message_id, name), partial(open_file, path))
    return Found(record, partial(open_file, path), exact=True)
