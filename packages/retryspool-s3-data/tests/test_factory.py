"""Settings, by keyword and by URL."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from retryspool.errors import InvalidOptionError, InvalidUrlError
from retryspool.plugins import get_data_factory, open_data
from retryspool_s3_data import S3DataFactory


def test_the_backend_is_found_by_its_name() -> None:
    assert S3DataFactory is get_data_factory("s3")


def test_the_backend_is_opened_by_url(s3_url: str) -> None:
    with open_data(s3_url.replace("?", "/some/outbox?")) as backend:
        assert "S3DataBackend('retryspool', prefix='some/outbox')" == repr(backend)


def test_whoever_only_lists_plugins_does_not_import_boto3() -> None:
    script = "import sys, retryspool_s3_data.plugin; print('boto3' in sys.modules, 'botocore' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "False False\n" == ran.stdout


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket", S3DataFactory("bucket")),
        ("s3://bucket/", S3DataFactory("bucket")),
        ("s3://bucket/out/box/", S3DataFactory("bucket", prefix="out/box")),
        ("s3://my.bucket-1/%C3%BC%20x", S3DataFactory("my.bucket-1", prefix="ü x")),
        (
            "s3://bucket/p?endpoint=http://localhost:9000&region=eu-west-1&access_key=a&secret_key=b%2F&session_token=c",
            S3DataFactory(
                "bucket",
                prefix="p",
                endpoint="http://localhost:9000",
                region="eu-west-1",
                access_key="a",
                secret_key="b/",
                session_token="c",
            ),
        ),
        (
            "s3://bucket?addressing=path&storage_class=STANDARD_IA&sse=aws:kms&kms_key=alias/x&create_bucket=true",
            S3DataFactory(
                "bucket",
                addressing="path",
                storage_class="STANDARD_IA",
                sse="aws:kms",
                kms_key="alias/x",
                create_bucket=True,
            ),
        ),
        (
            "s3://bucket?part_bytes=5242880&concurrency=1&connect_timeout=0.5&timeout=7&max_attempts=1",
            S3DataFactory(
                "bucket", part_bytes=5242880, concurrency=1, connect_timeout=0.5, timeout=7.0, max_attempts=1
            ),
        ),
    ],
)
def test_a_url_says_what_the_settings_are(url: str, expected: S3DataFactory) -> None:
    assert expected == S3DataFactory.from_url(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3:", "bucket is ''"),
        ("s3:///prefix", "bucket is ''"),
        ("s3://ab", "3 to 63"),
        ("s3://Bucket", "lower case"),
        ("s3://under_score", "bucket is 'under_score'"),
        ("s3://127.0.0.1", "no IP address"),
        ("s3://a..b", "bucket is"),
        ("s3://key:secret@bucket", r"settings: \?endpoint=.*access_key"),
        ("s3://bucket:9000", "endpoint=http://host:port"),
        ("s3://bucket/a//b", "prefix"),
        ("s3://bucket/a/../b", "prefix"),
        ("s3://bucket/a%0Ab", "prefix"),
        ("s3://bucket/a%5Cb", "prefix"),
        ("s3://bucket?prefix=x", "there is no setting 'prefix'; there are: access_key, addressing"),
        ("s3://bucket?region=a&region=b", "twice"),
        ("s3://bucket?part_bytes=many", "part_bytes"),
        ("s3://bucket?create_bucket=yes", "true or false"),
        ("s3://bucket?concurrency=0", "concurrency is 0; it must be 1 to 64"),
    ],
)
def test_a_url_that_is_wrong_is_refused(url: str, says: str) -> None:
    with pytest.raises(InvalidUrlError, match=says) as raised:
        S3DataFactory.from_url(url)
    assert "secret@" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"bucket": "x"}, "bucket is 'x'"),
        ({"bucket": "-ab"}, "letter or a digit at both ends"),
        ({"prefix": "x" * 701}, "at most 700 bytes"),
        ({"endpoint": "localhost:9000"}, "http://localhost:9000"),
        ({"endpoint": "ftp://localhost"}, "endpoint is 'ftp://localhost'"),
        ({"endpoint": "http://localhost:99999"}, "endpoint"),
        ({"endpoint": "http://user:hidden@localhost"}, "access_key and secret_key$"),
        ({"addressing": "dns"}, "addressing is 'dns'; it must be one of auto, path, virtual"),
        ({"sse": "aes"}, "sse is 'aes'; it must be one of AES256, aws:kms"),
        ({"kms_key": "k"}, "kms_key is set and sse is None"),
        ({"kms_key": "k", "sse": "AES256"}, "with a key it must be 'aws:kms'"),
        ({"storage_class": "GLACIER"}, "GLACIER_IR"),
        ({"access_key": "a"}, "together"),
        ({"secret_key": "hidden"}, "together"),
        ({"session_token": "hidden"}, "without access_key"),
        ({"part_bytes": 1024}, "part_bytes is 1024; it must be 5242880 to"),
        ({"concurrency": 65}, "concurrency is 65"),
        ({"connect_timeout": 0}, "connect_timeout is 0"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"max_attempts": 0}, "max_attempts is 0"),
    ],
)
def test_an_option_out_of_range_is_refused_when_the_factory_is_made(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOptionError, match=says) as raised:
        S3DataFactory(**{"bucket": "bucket", **settings})
    assert "hidden" not in str(raised.value)


def test_no_secret_is_shown() -> None:
    factory = S3DataFactory("bucket", access_key="hidden1", secret_key="hidden2", session_token="hidden3")

    assert "hidden" not in repr(factory)


def test_a_factory_goes_to_another_process() -> None:
    factory = S3DataFactory("bucket", prefix="p", access_key="a", secret_key="b", region="eu-west-1")

    assert factory == pickle.loads(pickle.dumps(factory))


def test_a_namespace_is_a_prefix_below() -> None:
    factory = S3DataFactory("bucket", region="eu-west-1")

    assert replace(factory, prefix="tenant") == factory.in_namespace("tenant")
    assert replace(factory, prefix="a/tenant") == replace(factory, prefix="a").in_namespace("tenant")
    with pytest.raises(InvalidOptionError, match="namespace"):
        factory.in_namespace("a/b")
