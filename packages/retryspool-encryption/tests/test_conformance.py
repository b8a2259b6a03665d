"""The suite of middleware, on each algorithm."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from retryspool.conformance import MiddlewareSuite, OldFormat
from retryspool.middleware import Middleware
from retryspool_encryption import Aes256Gcm, ChaCha20Poly1305, Key, new_key
from retryspool_encryption.__main__ import add_key

FORMATS = Path(__file__).with_name("formats")
"""What released versions wrote, a file for each version of the format: never changed, only added to."""

KEY = Key("fixture", bytes(range(32)))
"""The key of those."""
_KEYS = [new_key("new"), KEY]


def old_formats(name: str) -> dict[str, OldFormat]:
    found: dict[str, OldFormat] = {}
    for path in FORMATS.glob("*.json"):
        for each in json.loads(path.read_text())["payloads"]:
            if each["middleware"] == name:
                payload = base64.b64decode(each["piece"]) * each["times"]
                stored = base64.b64decode(each["stored"])
                found[f"{path.stem} {each['what']}"] = OldFormat(each["message_id"], stored, payload)
    return found


class _EncryptionSuite(MiddlewareSuite):
    @pytest.fixture(autouse=True)
    def _key_file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "keys"
        for key in reversed(_KEYS):
            add_key(self.path, key)

    def secrets(self) -> Sequence[str]:
        raw = [key.secret for key in _KEYS]
        texts = [base64.b64encode(secret).decode() for secret in raw]
        return [*texts, *(secret.hex() for secret in raw), *(repr(secret)[2:-1] for secret in raw)]


class TestAes256Gcm(_EncryptionSuite):
    def middleware(self) -> Middleware:
        return Aes256Gcm(key_file=self.path, headers=True)

    def url(self) -> str:
        return f"aes-256-gcm:?key-file={self.path}&headers=1"

    def old_formats(self) -> Mapping[str, OldFormat]:
        return old_formats("aes-256-gcm")


class TestChaCha20Poly1305(_EncryptionSuite):
    def middleware(self) -> Middleware:
        return ChaCha20Poly1305(key_file=self.path, headers=True)

    def url(self) -> str:
        return f"chacha20-poly1305:?key-file={self.path}"

    def old_formats(self) -> Mapping[str, OldFormat]:
        return old_formats("chacha20-poly1305")
