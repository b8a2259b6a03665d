"""What endangers messages: the server's settings, and records that can't be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from retryspool.errors import BackendError, BackendUnavailableError, CorruptRecordError
from retryspool.model import Finding, Severity, State
from retryspool_redis_meta.codec import decode, state_text
from retryspool_redis_meta.link import Link
from retryspool_redis_meta.notes import damaged_notes
from retryspool_redis_meta.scripts import WALK
from retryspool_redis_meta.server import info

__all__ = ["survey"]

_AT_ONCE = 200
"""How many records are looked at in one step."""

_APPENDFSYNC = {
    "everysec": "a power cut takes what was acknowledged in the last second or two",
    "no": "a power cut takes what the system had not yet written, half a minute's worth or more",
}


def survey(link: Link, base: str) -> Iterator[Finding]:
    """Yield the findings; those on records cost one look at each, in small steps."""
    yield from _settings(link)
    yield from _records(link, base)
    yield from damaged_notes(link, base)


def _settings(link: Link) -> Iterator[Finding]:
    try:
        appendonly = _setting(link, "appendonly")
        appendfsync = _setting(link, "appendfsync")
        policy = _setting(link, "maxmemory-policy")
        maxmemory = _setting(link, "maxmemory")
    except BackendUnavailableError:
        raise
    except BackendError as error:
        text = f"its settings can't be seen ({error}); see for yourself that appendonly is 'yes', appendfsync 'always'"
        yield Finding(Severity.NOTICE, "CONFIG GET", f"{text} and maxmemory-policy 'noeviction'")
    else:
        yield from _durability(appendonly, appendfsync, waits_for_disk=link.waits_for_disk)
        if policy != "noeviction":
            severity = Severity.ERROR if maxmemory != "0" else Severity.WARNING
            text = f"it is {policy!r}: once memory is short, the server drops messages; set it to 'noeviction'"
            yield Finding(severity, "maxmemory-policy", text)
    replicas = int(info(link, "replication").get("connected_slaves", "0"))
    if replicas:
        text = f"there are {replicas} replicas: a fail-over to one may lose what was acknowledged just before it"
        yield Finding(Severity.NOTICE, "replication", f"{text}, since they are written to afterwards")


def _durability(appendonly: str, appendfsync: str, *, waits_for_disk: bool) -> Iterator[Finding]:
    if appendonly != "yes":
        text = "there is no append-only file: a crash takes everything since the last snapshot, or everything"
        yield Finding(Severity.WARNING, "appendonly", f"{text}; set appendonly to 'yes' and appendfsync to 'always'")
    elif appendfsync != "always" and not waits_for_disk:
        takes = _APPENDFSYNC.get(appendfsync, "a power cut may take what was acknowledged")
        text = f"it is {appendfsync!r}: {takes}; set it to 'always', or open the store with durability='fsync'"
        yield Finding(Severity.WARNING, "appendfsync", text)


def _setting(link: Link, name: str) -> str:
    reply = link.ask("CONFIG", "GET", name)
    pairs = cast("Mapping[bytes, bytes]", reply) if isinstance(reply, Mapping) else {reply[0]: reply[1]}
    return pairs[name.encode()].decode()


def _records(link: Link, base: str) -> Iterator[Finding]:
    for state in State:
        after: bytes = b""
        while answer := link.read(WALK, state_text(state), after, _AT_ONCE):
            for at in range(0, len(answer), 3):
                after, head, body = answer[at : at + 3]
                finding = _finding(after.decode(), head, body, f"{base}:m:")
                if finding is not None:
                    yield finding
    for message_id in sorted(link.ask("SMEMBERS", f"{base}:damaged")):
        yield _damaged(message_id.decode(), "claims have passed it over", f"{base}:m:")


def _finding(message_id: str, head: bytes, body: bytes, keys: str) -> Finding | None:
    try:
        decode(message_id, head, body)
    except CorruptRecordError as error:
        return _damaged(message_id, str(error), keys)
    return None


def _damaged(message_id: str, what: str, keys: str) -> Finding:
    text = f"its record is gone or can't be read ({what}): look at HGETALL {keys}{message_id}, then delete the message"
    return Finding(Severity.ERROR, "record", text, message_id)
