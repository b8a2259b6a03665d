"""The notes of a store: one hash of names and texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from retryspool.errors import BackendError, BackendUnavailableError, InvalidOptionError
from retryspool.meta import check_note
from retryspool.model import Finding, Severity
from retryspool_redis_meta.failures import refusal
from retryspool_redis_meta.link import Link
from retryspool_redis_meta.scripts import WRITE

__all__ = ["damaged_notes", "get_notes", "set_note"]


def get_notes(link: Link, base: str) -> dict[str, str]:
    """Return all notes that can be read, by name."""
    return {name.decode(): text.decode() for name, text in _stored(link, base).items() if not _damage_of(name, text)}


def set_note(link: Link, name: str, text: str | None) -> None:
    """Set a note or remove it, and end the waiting of others, in one step."""
    what = ("remove", "") if text is None else ("set", text)
    (answer,) = link.write(WRITE, int(link.waits_for_disk), "note", name, *what, "")
    word, _, rest = answer.partition(b" ")
    if word != b"ok":
        raise refusal(link.where, rest.decode(errors="replace"))


def damaged_notes(link: Link, base: str) -> Iterator[Finding]:
    """Yield what is wrong with notes."""
    key = f"{base}:notes"
    try:
        stored = _stored(link, base)
    except BackendUnavailableError:
        raise
    except BackendError as error:
        yield Finding(Severity.ERROR, "notes", f"no note can be read ({error}): look at TYPE {key}, then remove it")
        return
    for name, text in stored.items():
        damage = _damage_of(name, text)
        if damage:
            shown = name.decode(errors="backslashreplace")
            what = f"it can't be read, and counts for nothing ({damage}): look at HGET {key} {shown}, then set it anew"
            yield Finding(Severity.ERROR, f"note {shown}", what)


def _stored(link: Link, base: str) -> Mapping[bytes, bytes]:
    reply = link.ask("HGETALL", f"{base}:notes")
    if isinstance(reply, Mapping):
        return cast("Mapping[bytes, bytes]", reply)
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _damage_of(name: bytes, text: bytes) -> str:
    try:
        check_note(name.decode(), text.decode())
    except (UnicodeDecodeError, InvalidOptionError) as error:
        return str(error)
    return ""
