"""Pausing: a spool, or some of its routes, from which no worker claims until it's resumed.

What is paused stands in notes of the metadata store, so that all who work it know, whichever process they are, and go
on knowing after a restart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from retryspool.errors import CorruptRecordError, NotSupportedError
from retryspool.meta import MetaBackend, NoteKeeper
from retryspool.model import ZERO_TIME, utc_now

__all__ = ["Pause", "Paused", "Pausing"]

_SPOOL = "pause"
_ROUTES = "pause.routes"


@dataclass(frozen=True, slots=True)
class Pause:
    """That something is paused: since when, by whom, and why."""

    since: datetime
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Paused:
    """What is paused."""

    spool: Pause | None
    """The whole spool."""
    routes: Mapping[str, Pause]
    """These routes, whether the whole spool is or not."""

    def exclusions(self) -> frozenset[str]:
        """Return the routes from which nothing is claimed."""
        return frozenset(self.routes)


_NOTHING = Paused(None, {})


class Pausing:
    """What of a store is paused, for those who look and for those who decide."""

    def __init__(self, meta: MetaBackend) -> None:
        self._meta = meta
        self._keeper = meta if isinstance(meta, NoteKeeper) else None  # once: to look takes longer than to read notes

    def get(self) -> Paused:
        """Return what is paused: nothing in a store that keeps no notes.

        :raises CorruptRecordError: the note of paused routes can't be read
        """
        if self._keeper is None:
            return _NOTHING
        notes = self._keeper.get_notes()
        if _SPOOL not in notes and _ROUTES not in notes:
            return _NOTHING
        return Paused(_spool(notes[_SPOOL]) if _SPOOL in notes else None, _routes(notes.get(_ROUTES, "{}")))

    def pause(self, route: str | None, by: str, reason: str) -> Pause:
        """Pause a route, or the whole spool if it's None; what is paused already gets the new reason.

        :raises NotSupportedError: the store keeps no notes
        """
        notes = self._notes()
        pause = Pause(utc_now(), by, reason)
        if route is None:
            notes.set_note(_SPOOL, json.dumps(_json(pause)))
        else:
            self._set_routes(notes, {**self.get().routes, route: pause})
        return pause

    def resume(self, route: str | None) -> bool:
        """Resume a route, or the whole spool if it's None; returns False if that wasn't paused.

        Routes that are paused by themselves stay so when the spool is resumed.

        :raises NotSupportedError: the store keeps no notes
        """
        notes = self._notes()
        if route is None:
            was_paused = _SPOOL in notes.get_notes()
            notes.set_note(_SPOOL, None)
            return was_paused
        routes = dict(self.get().routes)
        was_paused = routes.pop(route, None) is not None
        self._set_routes(notes, routes)
        return was_paused

    def resume_all(self) -> None:
        """Resume the spool and all routes, even where what was noted of them can't be read.

        :raises NotSupportedError: the store keeps no notes
        """
        notes = self._notes()
        for name in (_ROUTES, _SPOOL):
            notes.set_note(name, None)

    def _notes(self) -> NoteKeeper:
        if self._keeper is None:
            kind = type(self._meta).__name__
            msg = f"{kind} keeps no notes, so that nothing can be paused for all workers; stop the workers instead"
            raise NotSupportedError(msg)
        return self._keeper

    @staticmethod
    def _set_routes(notes: NoteKeeper, routes: Mapping[str, Pause]) -> None:
        text = json.dumps({route: _json(pause) for route, pause in routes.items()})
        notes.set_note(_ROUTES, text if routes else None)


def _json(pause: Pause) -> dict[str, str]:
    return {"since": pause.since.isoformat(), "by": pause.by, "reason": pause.reason}


def _spool(note: str) -> Pause:
    """Return the pause of the whole spool, which is paused whatever the note says."""
    try:
        return _pause(json.loads(note))
    except (TypeError, ValueError):
        return Pause(ZERO_TIME, reason=f"a note that can't be read: {note!r:.100}")


def _routes(note: str) -> dict[str, Pause]:
    try:
        return {route: _pause(pause) for route, pause in dict(json.loads(note)).items()}
    except (TypeError, ValueError) as error:
        msg = f"the store's note {_ROUTES!r} can't be read, and it names the routes that are paused; resume all of them"
        raise CorruptRecordError(msg) from error


def _pause(found: object) -> Pause:
    values = cast("dict[str, Any]", dict(cast("Any", found)))
    since = datetime.fromisoformat(str(values.get("since", ZERO_TIME.isoformat())))
    return Pause(
        since if since.tzinfo else since.replace(tzinfo=UTC), str(values.get("by", "")), str(values.get("reason", ""))
    )
