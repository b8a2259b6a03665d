"""The Lua that changes the store, each script one atomic step: `common.lua` before each of the others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["CLAIM", "GET", "OLDEST", "OPEN", "REMOVE", "WALK", "WRITE", "Script"]


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text, and the SHA-1 by which the server knows it once it has seen it."""

    text: bytes
    sha: bytes


def _script(name: str) -> Script:
    text = b"\n".join((files(__name__) / f"{part}.lua").read_bytes() for part in ("common", name))
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


WRITE = _script("write")
CLAIM = _script("claim")
GET = _script("get")
WALK = _script("walk")
OLDEST = _script("oldest")
OPEN = _script("open")
REMOVE = _script("remove")
