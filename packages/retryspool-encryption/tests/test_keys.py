"""Keys: how they are written, where they come from, and that nobody sees them."""

from __future__ import annotations

import base64
import copy
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from retryspool.errors import BackendError, InvalidOptionError, InvalidUrlError
from retryspool.middleware import Middleware
from retryspool.plugins import middleware_at
from retryspool_encryption import Aes256Gcm, ChaCha20Poly1305, Key, new_key
from retryspool_encryption.__main__ import add_key, main

SECRET = bytes(range(200, 232))
TEXT = base64.b64encode(SECRET).decode()
KEY = Key("k1", SECRET)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.touch(0o600)
    path.write_text(f"# keys\n\n  {KEY.text}  \nold:{base64.b64encode(bytes(32)).decode()}\n")
    return path


def ids(stage: Middleware) -> list[str]:
    assert isinstance(stage, (Aes256Gcm, ChaCha20Poly1305))
    return list(stage._ring._keys)


# -- keys themselves ---------------------------------------------------------------------------------------------------


def test_a_key_is_what_it_is_written_as() -> None:
    assert f"k1:{TEXT}" == KEY.text
    assert KEY == Key.from_text(KEY.text) == Key.from_text(f"k1:{base64.urlsafe_b64encode(SECRET).decode()}")
    assert SECRET == Key.from_text(KEY.text).secret
    assert KEY not in {Key("k2", SECRET), Key("k1", bytes(32)), "k1"}


def test_new_keys_are_new() -> None:
    keys = [new_key() for _ in range(100)]

    assert 100 == len({key.secret for key in keys}) == len({key.id for key in keys})
    assert all(32 == len(key.secret) for key in keys)


WRONG = {
    "nothing": "",
    "no id": f":{TEXT}",
    "no secret": "k1:",
    "no colon": TEXT.replace(":", ""),
    "too short": f"k1:{base64.b64encode(SECRET[:31]).decode()}",
    "too long": f"k1:{base64.b64encode(SECRET * 2).decode()}",
    "no Base64": f"k1:{TEXT[:-4]}!!!!",
    "cut off": f"k1:{TEXT[:-1]}",
    "an id with a space": f"k 1:{TEXT}",
    "an id that is long": f"{'k' * 33}:{TEXT}",
    "hexadecimal": f"k1:{SECRET.hex()}",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_no_key_is_refused_and_not_shown(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError) as refused:
        Key.from_text(text)
    shown = "".join(traceback.format_exception(refused.value))
    assert TEXT[:20] not in shown

    path = tmp_path / "keys"
    path.touch(0o600)
    path.write_text(f"# a comment\n{text or 'x'}\n")
    with pytest.raises(InvalidOptionError, match="line 2: a key") as refused:
        Aes256Gcm(key_file=path)
    assert TEXT[:20] not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("way", [pickle.dumps, copy.deepcopy, copy.copy], ids=["pickle", "deepcopy", "copy"])
def test_a_key_is_neither_shown_nor_pickled(way: Callable[[object], object]) -> None:
    assert "<Key 'k1'>" == repr(KEY) == str(KEY) == f"{KEY}"
    with pytest.raises(TypeError, match="a key isn't pickled"):
        way(KEY)
    with pytest.raises(TypeError, match="a key isn't pickled"):
        pickle.dumps(Aes256Gcm(keys=[KEY]))


# -- where they come from ----------------------------------------------------------------------------------------------


def test_keys_come_from_a_file(key_file: Path) -> None:
    assert ["k1", "old"] == ids(Aes256Gcm(key_file=key_file)) == ids(middleware_at(f"aes-256-gcm:?key-file={key_file}"))


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o620, 0o602, 0o777])
def test_a_file_that_others_may_read_or_change_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)

    with pytest.raises(
        InvalidOptionError, match=f"may be read or changed by others .its mode is {mode:04o}.: chmod 600"
    ):
        Aes256Gcm(key_file=key_file)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_file_that_its_group_may_read_is_taken(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)

    assert ["k1", "old"] == ids(Aes256Gcm(key_file=key_file))


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidUrlError, match=r"there is no key file '.*keys'; `python -m retryspool_encryption new-key"
    ):
        middleware_at(f"aes-256-gcm:?key-file={tmp_path}/keys")


@pytest.mark.parametrize("content", ["", "# nothing\n", "\n\n"])
def test_a_file_without_keys_is_refused(key_file: Path, content: str) -> None:
    key_file.write_text(content)

    with pytest.raises(InvalidOptionError, match="there are no keys"):
        Aes256Gcm(key_file=key_file)


def test_a_file_that_is_no_text_and_a_folder_are_refused(key_file: Path, tmp_path: Path) -> None:
    key_file.write_bytes(b"\xff\xfe\0")
    for path in (key_file, tmp_path):
        with pytest.raises(InvalidOptionError):
            Aes256Gcm(key_file=path)


def test_two_keys_of_one_id_are_refused(key_file: Path) -> None:
    key_file.write_text(f"{KEY.text}\n{KEY.text}\n")

    with pytest.raises(InvalidOptionError, match="the ids of keys must differ: k1, k1"):
        Aes256Gcm(key_file=key_file)


@pytest.mark.parametrize("separator", [",", " ", "\n", ", "])
def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, separator: str) -> None:
    monkeypatch.setenv("OUR_KEYS", separator.join([KEY.text, new_key("other").text]))

    assert ["k1", "other"] == ids(Aes256Gcm(key_env="OUR_KEYS"))
    assert ["k1", "other"] == ids(middleware_at("chacha20-poly1305:?key-env=OUR_KEYS"))


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUR_KEYS", raising=False)
    with pytest.raises(InvalidOptionError, match="the environment variable OUR_KEYS isn't set"):
        Aes256Gcm(key_env="OUR_KEYS")


def test_keys_come_from_one_place(key_file: Path) -> None:
    with pytest.raises(InvalidOptionError, match="by none of key_file, key_env and keys"):
        Aes256Gcm()
    with pytest.raises(InvalidOptionError, match="by more than one of"):
        Aes256Gcm(key_file=key_file, keys=[KEY])
    with pytest.raises(InvalidUrlError, match="by none of"):
        middleware_at("aes-256-gcm")


def test_keys_that_can_not_be_fetched_again_leave_those_that_are_there(key_file: Path) -> None:
    stage = Aes256Gcm(key_file=key_file)
    key_file.unlink()

    with pytest.raises(BackendError, match="with key 'unknown', which can't be fetched: there is no key file"):
        stage._ring.get("unknown", "it")
    assert KEY == stage._ring.get("k1", "it") == stage._ring.first


def test_what_fetches_keys_may_fail_in_any_way() -> None:
    answers: list[list[Key]] = [[KEY]]

    def fetch() -> list[Key]:
        if not answers:
            raise ConnectionError("no route to the key server, token hunter2")
        return answers.pop()

    stage = Aes256Gcm(keys=fetch)

    with pytest.raises(BackendError, match="with key 'unknown', which can't be fetched: ConnectionError") as refused:
        stage._ring.get("unknown", "it")
    assert "hunter2" not in str(refused.value)
    assert KEY == stage._ring.first


def test_what_are_no_keys_are_refused() -> None:
    with pytest.raises(InvalidOptionError, match="objects of the class Key"):
        Aes256Gcm(keys=[KEY.text])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


def test_settings_are_shown_and_keys_are_not(key_file: Path) -> None:
    stage = Aes256Gcm(key_file=key_file, headers=True)

    assert f"Aes256Gcm(key_file={key_file!r}, key_env=None, headers=True, decrypt_only=False)" == repr(stage)
    assert TEXT not in repr(Aes256Gcm(keys=[KEY]))
    assert SECRET not in pickle.dumps(stage)
    assert stage == pickle.loads(pickle.dumps(stage))
    assert ["k1", "old"] == ids(pickle.loads(pickle.dumps(stage)))


@pytest.mark.parametrize("setting", ["headers=yes", "headers=", "decrypt-only=2", "key=x", "key_file=x"])
def test_a_wrong_setting_is_refused(key_file: Path, setting: str) -> None:
    with pytest.raises(InvalidUrlError):
        middleware_at(f"aes-256-gcm:?key-file={key_file}&{setting}")


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_makes_a_key_file_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"

    assert 0 == main(["new-key", str(path), "--id", "first"])
    assert f"key first is the first in {path}: it encrypts new messages\n" == capsys.readouterr().out
    assert 0o600 == path.stat().st_mode & 0o777
    assert ["first"] == ids(Aes256Gcm(key_file=path))

    path.chmod(0o640)
    assert 0 == main(["new-key", str(path)])
    assert "1 before it still decrypt" in capsys.readouterr().out
    assert 0o640 == path.stat().st_mode & 0o777
    assert 2 == len(ids(Aes256Gcm(key_file=path)))
    assert "first" == ids(Aes256Gcm(key_file=path))[-1]
    assert [path] == list(tmp_path.iterdir())
    assert 1 == path.read_text().count("#")


def test_the_command_refuses_what_would_do_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    add_key(path, KEY)
    before = path.read_text()

    for wrong in (["--id", "k1"], ["--id", "no id"]):
        assert 1 == main(["new-key", str(path), *wrong])
    path.chmod(0o644)
    assert 1 == main(["new-key", str(path)])
    assert 1 == main(["new-key", str(tmp_path / "nowhere" / "keys")])

    assert 4 == capsys.readouterr().err.count("error: ")
    assert before == path.read_text()


def test_the_command_prints_a_key_if_no_file_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "retryspool_encryption", "new-key", "--id", "x"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert "x" == Key.from_text(done.stdout.strip()).id
