"""Backends' URLs: taken apart, and shown without their passwords."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import FAST

from retryspool.errors import InvalidUrlError
from retryspool.urls import parse_url, redact, scheme_of

SETTINGS: Mapping[str, Callable[[str], object]] = {"sync": str, "pool": int, "password": str}
SECRET = "hunter2"


@pytest.mark.parametrize(
    ("expected", "url"),
    [
        ("fs", "fs:///var/spool"),
        ("fs", "FS:relative"),
        ("memory", "memory:"),
        ("redis+tls", "redis+tls://h/0"),
        ("my-own", "my-own:x"),
    ],
)
def test_a_scheme_is_what_stands_before_the_colon(expected: str, url: str) -> None:
    assert expected == scheme_of(url)


@pytest.mark.parametrize("url", ["", "fs", "./spool", "/var/spool", ":x", "1fs:x", "a b:x", "//host/x", "./a:b"])
def test_what_has_no_scheme_is_no_url(url: str) -> None:
    with pytest.raises(InvalidUrlError, match="is not a backend's URL, such as"):
        scheme_of(url)


def test_a_url_is_taken_apart() -> None:
    url = parse_url("pg://me%40x:s%2Fcret@db.example:5432/a%20b?sync=full&pool=3", SETTINGS)

    assert ("db.example", 5432, "me@x", "s/cret", "/a b") == (url.host, url.port, url.user, url.password, url.path)
    assert {"sync": "full", "pool": 3} == url.settings


@pytest.mark.parametrize(("expected", "url"), [("/var/x", "fs:///var/x"), ("./x", "fs:./x"), ("", "fs:"), ("n", "m:n")])
def test_a_path_is_kept_as_it_is(expected: str, url: str) -> None:
    assert expected == parse_url(url, {}).path


@pytest.mark.parametrize(
    ("says", "url"),
    [
        ("there is no setting 'colour'; there are: password, pool, sync", "fs:///x?colour=red"),
        ("the setting 'sync' is given twice", "fs:///x?sync=a&sync=b"),
        ("the setting 'pool' isn't right: invalid literal", "fs:///x?pool=many"),
        ("doesn't parse", "fs:///x?sync"),
        ("doesn't parse", "fs://h:port/x"),
        ("doesn't parse", "fs://[::1/x"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(says: str, url: str) -> None:
    with pytest.raises(InvalidUrlError, match=says) as refused:
        parse_url(url, SETTINGS)
    assert url in str(refused.value)


def test_a_backend_without_settings_says_so() -> None:
    with pytest.raises(InvalidUrlError, match="there are: none"):
        parse_url("fs:///x?a=b", {})


@pytest.mark.parametrize(
    ("expected", "url"),
    [
        ("fs:///var/spool/x?sync=hybrid", "fs:///var/spool/x?sync=hybrid"),
        ("fs:///a:b@c", "fs:///a:b@c"),
        ("s3://bucket/a@b?region=x", "s3://bucket/a@b?region=x"),
        ("redis://me@h/0", "redis://me@h/0"),
        ("redis://[::1]:80/x@y", "redis://[::1]:80/x@y"),
        ("redis://:***@h/0", f"redis://:{SECRET}@h/0"),
        ("pg://me:***@h:5/x?sync=1", f"pg://me:{SECRET}@h:5/x?sync=1"),
        ("pg://me:***@h/x", f"pg://me:{SECRET}/{SECRET}@h/x"),
        ("pg://me:***@h/x", f"pg://me:{SECRET}@{SECRET}#{SECRET}?{SECRET}@h/x"),
        ("pg://h/x?password=***&a=b", f"pg://h/x?password={SECRET}&a=b"),
        ("s3://b/x?secret_access_key=***", f"s3://b/x?secret_access_key={SECRET}"),
        ("nats://h?a=b&AUTH_TOKEN=***#f", f"nats://h?a=b&AUTH_TOKEN={SECRET}#f"),
        ("host=db password=*** port=5", f"host=db password={SECRET} port=5"),
    ],
)
def test_a_url_is_shown_without_its_password(expected: str, url: str) -> None:
    assert expected == redact(url)


@pytest.mark.parametrize(
    "url",
    [
        f"pg://me:{SECRET}@h/x?colour=red",
        f"pg://me:{SECRET}/@h/x",
        f"pg://me:{SECRET}@h/x?sync",
        f"pg://h/x?password={SECRET}&pool=x",
        f"host=db password={SECRET}",
    ],
)
def test_no_error_shows_a_password(url: str) -> None:
    with pytest.raises(InvalidUrlError) as refused:
        parse_url(url, SETTINGS)
    assert (
        SECRET not in f"{refused.value} {refused.value.__context__ if not refused.value.__suppress_context__ else ''}"
    )


def test_no_repr_shows_a_password() -> None:
    assert SECRET not in repr(parse_url(f"pg://me:{SECRET}@h/x?password={SECRET}", SETTINGS))


@FAST
@given(text=st.text(max_size=60))
def test_anything_can_be_shown_and_what_is_shown_stays(text: str) -> None:
    for url in (text, f"x://{text}", f"x://u:{text}@h?key={text}"):
        assert redact(url) == redact(redact(url))
