"""The files that the demo spools: of several kinds and sizes, an empty one among them."""

from __future__ import annotations

import gzip
import json
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

__all__ = ["Item", "make_files"]


@dataclass(frozen=True, slots=True)
class Item:
    """A file to spool."""

    path: Path
    content_type: str


def make_files(folder: Path, count: int) -> Iterator[Item]:
    """Write files and yield them, all different."""
    folder.mkdir()
    makers = (_order, _notes, _picture, _mail, _log, _nothing)
    rng = random.Random()
    for number in range(count):
        suffix, content_type, content = makers[number % len(makers)](number, rng)
        path = folder / f"{number:04}{suffix}"
        path.write_bytes(content)
        yield Item(path, content_type)


_Made = tuple[str, str, bytes]


def _order(number: int, rng: random.Random) -> _Made:
    order = {"order": number, "total": round(rng.uniform(1, 500), 2), "items": rng.choices(["tea", "milk", "☕"], k=3)}
    return ".json", "application/json", json.dumps(order, ensure_ascii=False).encode()


def _notes(number: int, rng: random.Random) -> _Made:
    words = ("a", "spool", "keeps", "what", "it", "was", "given", "until", "someone", "takes", "it")
    lines = [f"Note {number}"] + [" ".join(rng.choices(words, k=12)) for _ in range(rng.randrange(5, 200))]
    return ".txt", "text/plain; charset=utf-8", "\n".join(lines).encode()


def _picture(number: int, rng: random.Random) -> _Made:
    """Return a PNG of coloured noise."""
    side = 16 + number % 48

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + rng.randbytes(3 * side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return ".png", "image/png", png


def _mail(number: int, rng: random.Random) -> _Made:
    mail = EmailMessage()
    mail["From"] = "shop@example.com"
    mail["To"] = f"customer{number}@example.org"
    mail["Subject"] = f"Your order {number}"
    mail.set_content(f"Thank you.\n.\nYour code is {rng.getrandbits(64):x}.\n")
    return ".eml", "message/rfc822", mail.as_bytes()


def _log(number: int, rng: random.Random) -> _Made:
    lines = "".join(f"{number} {rng.getrandbits(128):032x}\n" for _ in range(rng.randrange(10, 5000)))
    return ".log.gz", "application/gzip", gzip.compress(lines.encode())


def _nothing(number: int, rng: random.Random) -> _Made:
    """Return nothing, one time out of two: an empty payload is a payload too. Else any bytes that there are."""
    return ".bin", "application/octet-stream", b"" if number % 4 == 1 else bytes(range(256)) + rng.randbytes(4096)
