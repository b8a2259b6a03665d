"""Spools with middleware, from the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Cli


@pytest.fixture
def sealed(tmp_path: Path) -> str:
    """The middleware of a key of one's own, which encrypts headers too."""
    path = tmp_path / "key"
    command = [sys.executable, "-m", "retryspool_encryption", "new-key", str(path)]
    subprocess.run(command, check=True, timeout=30, capture_output=True)
    return f"aes-256-gcm:?key-file={path}&headers=1"


def test_what_was_compressed_is_read_without_naming_how(cli: Cli, tmp_path: Path) -> None:
    payload = b"again and again " * 10_000
    given = ("--spool", tmp_path / "spool")

    assert 0 == cli(*given, "--middleware", "zstd:?level=9", "enqueue", "--id", "a", stdin=payload).code

    (file,) = (tmp_path / "spool" / "data").glob("*/*.data")
    assert file.stat().st_size < 1000
    assert payload == cli(*given, "cat", "a").out
    assert "zstd" == cli(*given, "show", "--json", "a").json["headers"]["x-retryspool-encoding"]


def test_what_was_encrypted_is_shown_to_who_has_the_key(cli: Cli, tmp_path: Path, sealed: str) -> None:
    given = ("--spool", tmp_path / "spool")
    with_key = (*given, "--middleware", "zstd", "--middleware", sealed)
    assert 0 == cli(*with_key, "enqueue", "--id", "a", "--header", "to=ada", stdin=b"secret").code

    assert (b"secret", "ada") == (
        cli(*with_key, "cat", "a").out,
        cli(*with_key, "show", "--json", "a").json["headers"]["to"],
    )
    refused = cli(*given, "cat", "a")
    assert (1, b"") == (refused.code, refused.out)
    assert "is encoded with 'aes-256-gcm'; its key is needed: open the spool with" in refused.err
    headers = cli(*given, "show", "--json", "a").json["headers"]
    assert {"x-retryspool-encoding", "x-retryspool-sealed"} == set(headers)
    assert 0 == cli(*given, "hold", "a").code, "what needs no key is done without"
    assert "ada" == cli(*with_key, "show", "--json", "a").json["headers"]["to"]


def test_a_worker_without_the_key_leaves_messages_to_those_that_have_it(
    cli: Cli, tmp_path: Path, sealed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = ("--spool", tmp_path / "spool")
    monkeypatch.setenv("RETRYSPOOL_MIDDLEWARE", sealed)
    assert 0 == cli(*spool, "enqueue", "--id", "a", "--header", "to=ada", stdin=b"secret").code
    monkeypatch.delenv("RETRYSPOOL_MIDDLEWARE")

    cli(*spool, "work", "--exec", "touch delivered", "--drain")
    record = cli(*spool, "show", "--json", "a").json
    assert (False, 0, "deferred") == ((tmp_path / "delivered").exists(), record["attempts"], record["state"])

    (tmp_path / "retryspool.toml").write_text(f'middleware = ["{sealed}"]')
    cli(*spool, "retry", "a")
    cli(*spool, "work", "--exec", 'cat > delivered; echo "$RETRYSPOOL_HEADER_TO" >> delivered', "--drain")
    assert "secretada\n" == (tmp_path / "delivered").read_text()


def test_middleware_that_there_is_not_is_an_error_that_names_those_there_are(cli: Cli, tmp_path: Path) -> None:
    refused = cli("--spool", tmp_path / "spool", "--middleware", "snappy", "enqueue", stdin=b"x")

    assert 0 != refused.code
    assert (
        "there is no middleware 'snappy'; installed: aes-256-gcm, chacha20-poly1305, gzip, lz4, zlib, zstd"
        in refused.err
    )
    assert not (tmp_path / "spool").exists()


def test_middleware_is_listed(cli: Cli) -> None:
    listed = [(each["kind"], each["name"]) for each in cli("backends", "--json").json["plugins"]]

    assert ("middleware", "zstd") in listed
    assert ("middleware", "aes-256-gcm") in listed
