"""Settings, by keyword and by URL, and the stores that they name."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

from retryspool.errors import InvalidOptionError, InvalidUrlError
from retryspool.model import MessageMetadata, State
from retryspool.plugins import get_meta_factory, meta_factory_at, open_meta
from retryspool_redis_meta import RedisMetaFactory
from retryspool_redis_meta.address import Address, parse_address
from retryspool_redis_meta.backend import RedisMetaBackend


def test_the_backend_is_found_by_its_name() -> None:
    assert RedisMetaFactory is get_meta_factory("redis")


def test_whoever_makes_a_factory_or_only_lists_it_does_not_import_redis() -> None:
    script = (
        "import sys, retryspool_redis_meta; from retryspool.plugins import get_meta_factory, meta_factory_at; "
        "assert retryspool_redis_meta.RedisMetaFactory is get_meta_factory('redis'); "
        "meta_factory_at('redis://me:pw@h/0?prefix=x').in_namespace('a'); "
        "print([name for name in sys.modules if name.partition('.')[0] == 'redis'])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]\n" == ran.stdout


@pytest.mark.parametrize(
    "url",
    ["redis://h", "rediss://h", "redis+sentinel://h?service=s", "rediss+sentinel://h?service=s", "redis+unix:///s"],
)
def test_each_scheme_is_a_way_to_the_same_backend(url: str) -> None:
    assert isinstance(meta_factory_at(url), RedisMetaFactory)


def test_the_backend_is_opened_by_url(redis_url: str, factory: RedisMetaFactory) -> None:
    with open_meta(f"{redis_url}?prefix={factory.prefix}&timeout=7") as backend:
        assert isinstance(backend, RedisMetaBackend)
        assert f"RedisMetaBackend('{redis_url}', keys='{{{factory.prefix}}}')" == repr(backend)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost", Address((("localhost", 6379),))),
        ("redis://localhost:7000/3", Address((("localhost", 7000),), database=3)),
        ("redis://[::1]:7000/", Address((("::1", 7000),))),
        ("redis://:pa%2Fss@h/1", Address((("h", 6379),), database=1, password="pa/ss")),
        ("rediss://me:p%40ss@h", Address((("h", 6379),), user="me", password="p@ss", tls=True)),
        ("redis+unix:///run/redis.sock", Address((), "/run/redis.sock")),
        ("redis+unix://me:pw@/run/redis.sock", Address((), "/run/redis.sock", user="me", password="pw")),
        ("redis+sentinel://a,b:7000/2", Address((("a", 26379), ("b", 7000)), database=2, by_sentinel=True)),
        (
            "rediss+sentinel://u:p@[::1]:7,b",
            Address((("::1", 7), ("b", 26379)), user="u", password="p", tls=True, by_sentinel=True),
        ),
    ],
)
def test_a_url_says_where_the_server_is(url: str, expected: Address) -> None:
    assert expected == parse_address(url)


def test_a_url_says_what_the_settings_are() -> None:
    settings = {
        "prefix": "outbox:mail",
        "durability": "fsync",
        "timeout": 2.5,
        "connect_timeout": 1.0,
        "max_connections": 7,
        "service": "mymaster",
        "sentinel_user": "su",
        "sentinel_password": "s p",
        "tls_ca": "/etc/ca.pem",
        "tls_certificate": "/etc/own.pem",
        "tls_key": "/etc/own.key",
        "tls_verify": False,
    }
    url = (
        "rediss+sentinel://user:pw@a,b/1?prefix=outbox:mail&durability=fsync&timeout=2.5&connect_timeout=1"
        "&max_connections=7&service=mymaster&sentinel_user=su&sentinel_password=s%20p&tls_ca=/etc/ca.pem"
        "&tls_certificate=/etc/own.pem&tls_key=/etc/own.key&tls_verify=false"
    )

    assert RedisMetaFactory("rediss+sentinel://user:pw@a,b/1", **settings) == RedisMetaFactory.from_url(url)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://", "host:port"),
        ("redis://a,b/0", "host:port"),
        ("redis://h:0/0", "1 to 65535"),
        ("redis://h:65536", "1 to 65535"),
        ("redis://h/x", "number of a database"),
        ("redis://h/-1", "number of a database"),
        ("redis:localhost", "no host"),
        ("redis://h/0#1", "%23"),
        ("redis://h/0?colour=red", "there is no setting 'colour'"),
        ("redis://h/0?prefix=a&prefix=b", "twice"),
        ("redis://h/0?prefix=", "prefix is ''"),
        ("redis://h/0?prefix=a{b", "prefix is 'a{b'"),
        ("redis://h/0?durability=perhaps", "one of ack, fsync"),
        ("redis://h/0?timeout=soon", "number of seconds"),
        ("redis://h/0?timeout=0", "more than 0"),
        ("redis://h/0?connect_timeout=nan", "more than 0"),
        ("redis://h/0?max_connections=0", "at least 1"),
        ("redis://h/0?max_connections=many", "whole number"),
        ("redis://h/0?tls_verify=perhaps", "true or false"),
        ("redis://h/0?service=mymaster", r"goes with redis\+sentinel://"),
        ("redis+sentinel://h/0", "is needed"),
        ("redis+sentinel://a,,b/0?service=s", "host:port,host:port"),
        ("redis+unix://host/run/redis.sock", "names no socket"),
        ("redis+unix:run/redis.sock", "no host"),
        ("redis+unix://", "names no socket"),
        ("memory:x", "redis, rediss"),
    ],
)
def test_a_url_that_is_wrong_is_refused(url: str, says: str) -> None:
    with pytest.raises(InvalidUrlError, match=says):
        RedisMetaFactory.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:hunter2@h:x/0",
        "redis://me:hunt/er2@h/0",
        "redis://me:hun?ter2@h/0",
        "redis://me:hunter2@h/hunter2@x",
        "redis+unix://me:hunter2@host/run",
        "redis+sentinel://me:hunter2@a,b:hunter/0?service=s",
        "redis+sentinel://h/0?sentinel_password=hunter2",
    ],
)
def test_a_url_that_is_wrong_is_shown_without_its_password(url: str) -> None:
    with pytest.raises(InvalidUrlError) as wrong:
        RedisMetaFactory.from_url(url)

    assert not {"hunter2", "hunt", "er2", "ter2"} & set(str(wrong.value).replace("/", " ").replace("@", " ").split())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"prefix": "a b"}, "prefix is 'a b'; it must be 1 to 200 characters"),
        ({"prefix": "x" * 201}, "prefix"),
        ({"durability": "perhaps"}, "durability is 'perhaps'; it must be one of ack, fsync"),
        ({"timeout": -1.0}, "timeout is -1.0; it must be more than 0"),
        ({"connect_timeout": 4000}, "connect_timeout is 4000"),
        ({"max_connections": 0}, "max_connections is 0"),
        ({"service": "s"}, "service is 's'"),
    ],
)
def test_an_option_out_of_range_is_refused_when_the_factory_is_made(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOptionError, match=says):
        RedisMetaFactory("redis://localhost/0", **settings)


def test_settings_are_no_part_of_the_url_of_a_factory() -> None:
    with pytest.raises(InvalidUrlError, match="there is no setting 'prefix'"):
        RedisMetaFactory("redis://localhost/0?prefix=x")


def test_no_password_is_shown() -> None:
    factory = RedisMetaFactory(
        "redis+sentinel://me:hunter2@h/0", service="s", sentinel_user="me", sentinel_password="hunter3"
    )

    assert "RedisMetaFactory('redis+sentinel://me:***@h/0', prefix='retryspool', durability='ack')" == repr(factory)


def test_a_factory_crosses_to_another_process() -> None:
    factory = RedisMetaFactory("redis://me:pw@h/0", prefix="x", durability="fsync", timeout=3)

    assert factory == pickle.loads(pickle.dumps(factory))


def test_namespaces_and_prefixes_share_nothing(factory: RedisMetaFactory) -> None:
    inside = factory.in_namespace("a")
    assert f"{factory.prefix}:a" == inside.prefix

    with factory.create() as outer, inside.create() as inner, factory.in_namespace("a1").create() as other:
        outer.store_meta("a", MessageMetadata("a", state=State.HOLD))
        inner.store_meta("a", MessageMetadata("a"))

        assert [(1, 0), (0, 1), (0, 0)] == [
            (each.get_state_count(State.HOLD), each.get_state_count(State.INCOMING)) for each in (outer, inner, other)
        ]


def test_it_says_what_is_at_work(backend: RedisMetaBackend) -> None:
    versions = backend.versions()

    assert ["backend", "driver", "server"] == list(versions)
    assert versions["backend"].startswith("retryspool-redis-meta ")
    assert versions["driver"].startswith("redis-py ")
    assert versions["server"].startswith(("Redis ", "Valkey "))
