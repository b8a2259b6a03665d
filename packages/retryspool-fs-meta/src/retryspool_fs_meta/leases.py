"""The lease table: what claims and renewals change, beside the records that they leave alone.

A claim needs to survive `kill -9` only, so it must not touch the record's file: unsynced content over a durable record
could lose both. It is a line in this table, which is read together with the record, and void as soon as the record's
bytes aren't those that it was made for. One small write makes it; to create and remove a file for each claim would cost
four times that.

The table is a text file of lines of 512 bytes, so that none crosses a sector or a page: its CRC, then JSON. A line's
place follows from the stripe of its id (see `StripedLocks`), whose lock guards it: line `stripe`, or that plus a
multiple of the number of stripes while those before it are taken. Readers hold no lock, which is what the CRC is for. A
power cut ends every lease: the file's name has the system's boot id, and those of other boots are removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from retryspool.files import unlink_if_there
from retryspool.model import MessageMetadata, State

__all__ = ["Lease", "LeaseTable", "digest_of"]

_LINE = 512
_FREE = b"-".ljust(_LINE - 1) + b"\n"
_PREFIX = "leases."


def digest_of(raw: bytes) -> str:
    """Return what identifies a record's bytes to the lease made for them."""
    return f"{zlib.crc32(raw):08x}"


def boot_id() -> str:
    """Return what is different after each start of the system."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


@dataclass(frozen=True, slots=True)
class Lease:
    """What a claim or a renewal has changed of a record."""

    message_id: str
    base: str
    """The digest of the record's bytes that it was made for."""
    version: int
    deliveries: int
    owner: str
    expires: datetime
    updated: datetime
    claimed_from: State | None

    @classmethod
    def of(cls, record: MessageMetadata, base: str) -> Lease:
        """Return the lease that makes a stored record into the claimed one."""
        return cls(
            record.id,
            base,
            record.version,
            record.deliveries,
            record.lease_owner,
            record.lease_expires,
            record.updated,
            record.claimed_from,
        )

    def over(self, record: MessageMetadata) -> MessageMetadata:
        """Return the record as it is under this lease."""
        return replace(
            record,
            state=State.ACTIVE,
            version=self.version,
            deliveries=self.deliveries,
            lease_owner=self.owner,
            lease_expires=self.expires,
            updated=self.updated,
            claimed_from=self.claimed_from,
        )


class LeaseTable:
    """The leases of one spool. Writes need the lock of the id's stripe; reads don't."""

    def __init__(self, folder: str, *, stripes: int, mode: int = 0o666) -> None:
        self._stripes = stripes
        name = f"{_PREFIX}{boot_id()}"
        self.is_first = True
        """Whether this is the first opening since the system has started: there may have been a power cut."""
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == name:
                    self.is_first = False
                elif entry.name.startswith(_PREFIX):
                    unlink_if_there(entry.path)
        self._fd = os.open(f"{folder}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with contextlib.suppress(OSError):
            # So that a spool on a disk that has filled up can still be worked empty.
            os.posix_fallocate(self._fd, 0, stripes * _LINE)

    def find(self, message_id: str, stripe: int) -> Lease | None:
        """Return the lease of a message, whether or not it's still good for the record.

        Without the lock a line may be seen half-written; then it's read again, until it's whole or gone.
        """
        start = _start(message_id)
        place = stripe
        while line := self._line(place):
            if line.startswith(start, 9):
                lease = _parse(line, message_id)
                if lease is not None:
                    return lease
                if line == self._line(place):  # not half-written, but damaged: void
                    return None
                continue
            place += self._stripes
        return None

    def put(self, lease: Lease, stripe: int) -> None:
        """Write a lease, in place of the message's earlier one if there is one. Needs the lock."""
        start = _start(lease.message_id)
        free = place = stripe
        looking = True
        while line := self._line(place):
            if line.startswith(start, 9):
                free = place
                break
            if looking and line[0] == _FREE[0]:
                free, looking = place, False
            place += self._stripes
        else:
            free = free if not looking else place
        self._write(_format(lease), free)

    def clear(self, message_id: str, stripe: int) -> None:
        """Remove the lease of a message if there is one. Needs the lock."""
        start = _start(message_id)
        place = stripe
        while line := self._line(place):
            if line.startswith(start, 9):
                self._write(_FREE, place)
            place += self._stripes

    def _line(self, place: int) -> bytes:
        """Return a line, empty where none was ever written."""
        line = os.pread(self._fd, _LINE, place * _LINE)
        return line if line and line[0] else b""

    def _write(self, line: bytes, place: int) -> None:
        written = os.pwrite(self._fd, line, place * _LINE)
        if written != _LINE:  # a disk that is full; what is there of the line has no good CRC
            os.pwrite(self._fd, line[written:], place * _LINE + written)

    def close(self) -> None:
        """Close the table; may be called again."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


def _start(message_id: str) -> bytes:
    return b'{"ID":"%s",' % message_id.encode()


def _format(lease: Lease) -> bytes:
    claimed_from = "null" if lease.claimed_from is None else lease.claimed_from.value
    body = (
        f'{{"ID":"{lease.message_id}","Base":"{lease.base}","Version":{lease.version},"Deliveries":{lease.deliveries},'
        f'"ClaimedFrom":{claimed_from},"Owner":"{lease.owner}","Expires":"{lease.expires.isoformat()}",'
        f'"Updated":"{lease.updated.isoformat()}"}}'
    ).encode("ascii")
    body = body.ljust(_LINE - 10) + b"\n"
    return b"%08x %s" % (zlib.crc32(body), body)


def _parse(line: bytes, message_id: str) -> Lease | None:
    body = line[9:]
    with contextlib.suppress(ValueError, KeyError, TypeError):
        if int(line[:8], 16) == zlib.crc32(body):
            fields = json.loads(body)
            claimed_from = fields["ClaimedFrom"]
            return Lease(
                message_id,
                fields["Base"],
                fields["Version"],
                fields["Deliveries"],
                fields["Owner"],
                datetime.fromisoformat(fields["Expires"]),
                datetime.fromisoformat(fields["Updated"]),
                None if claimed_from is None else State(claimed_from),
            )
    return None
