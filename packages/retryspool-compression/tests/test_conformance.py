"""The suite of middleware, on each method."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from retryspool.conformance import MiddlewareSuite, OldFormat
from retryspool.middleware import Middleware
from retryspool_compression import Gzip, Lz4, Zlib, Zstd

FORMATS = Path(__file__).with_name("formats")
"""What released versions wrote, a file for each version of the format: never changed, only added to."""


def old_formats(name: str) -> dict[str, OldFormat]:
    found: dict[str, OldFormat] = {}
    for path in FORMATS.glob("*.json"):
        for each in json.loads(path.read_text()):
            if each["middleware"] == name:
                payload = base64.b64decode(each["piece"]) * each["times"]
                stored = base64.b64decode(each["stored"])
                found[f"{path.stem} {each['what']}"] = OldFormat(each["message_id"], stored, payload)
    return found


class TestZstd(MiddlewareSuite):
    def middleware(self) -> Middleware:
        return Zstd(level=1)

    def url(self) -> str:
        return "zstd:?level=-3"

    def old_formats(self) -> Mapping[str, OldFormat]:
        return old_formats("zstd")


class TestGzip(MiddlewareSuite):
    def middleware(self) -> Middleware:
        return Gzip(level=1)

    def url(self) -> str:
        return "gzip:?level=9"

    def old_formats(self) -> Mapping[str, OldFormat]:
        return old_formats("gzip")


class TestZlib(MiddlewareSuite):
    def middleware(self) -> Middleware:
        return Zlib(level=1)

    def url(self) -> str:
        return "zlib:?level=0"

    def old_formats(self) -> Mapping[str, OldFormat]:
        return old_formats("zlib")


class TestLz4(MiddlewareSuite):
    def middleware(self) -> Middleware:
        return Lz4()

    def url(self) -> str:
        return "lz4:?level=12"

    def old_formats(self) -> Mapping[str, OldFormat]:
        return old_formats("lz4")
