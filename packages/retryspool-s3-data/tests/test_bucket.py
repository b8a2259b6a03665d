"""What is in the bucket: keys, other objects, thousands of payloads, rules that endanger them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from s3_answers import AnsweringServer, Asked, error

from retryspool.errors import BackendError
from retryspool.model import Severity
from retryspool_s3_data import S3DataFactory
from retryspool_s3_data.backend import S3DataBackend
from retryspool_s3_data.layout import key_of, message_id_of

IDS = ["a", "A", "a.data", "a.data.data", "CON", "x.", "a=b@c+d", "0", "a" * 200, "..x"[2:]]


def keys(client: Any, factory: S3DataFactory) -> set[str]:
    listed = client.list_objects_v2(Bucket=factory.bucket, Prefix=f"{factory.prefix}/")
    return {each["Key"] for each in listed.get("Contents", [])}


@pytest.mark.parametrize("prefix", ["", "p", "p/q", "p.data"])
def test_a_key_says_whose_payload_it_is(prefix: str) -> None:
    assert IDS == [message_id_of(prefix, key_of(prefix, message_id)) for message_id in IDS]
    assert len(IDS) == len({key_of(prefix, message_id) for message_id in IDS})
    for other in ("a", ".data", "-a.data", "x/a.data", "a.DATA", "p2/a.data"):
        assert message_id_of(prefix, f"{prefix}/{other}" if prefix else other) is None
    assert message_id_of("p", "a.data") is None


def test_keys_are_those_of_the_go_system(factory: S3DataFactory, backend: S3DataBackend, client: Any) -> None:
    for message_id in IDS:
        backend.store_data(message_id, message_id.encode())

    assert {f"{factory.prefix}/{message_id}.data" for message_id in IDS} == keys(client, factory)
    assert set(IDS) == {info.message_id for info in backend.iter_data()}
    assert {message_id: message_id.encode() for message_id in IDS} == backend.fetch_many(IDS, max_bytes=200)


def test_a_prefix_may_hold_any_printable_text(factory: S3DataFactory) -> None:
    with replace(factory, prefix=f"{factory.prefix}/ü & =+%41?#").create() as backend:
        backend.store_data("a=b", b"x")
        assert ["a=b"] == [info.message_id for info in backend.iter_data()]
        assert [None] == backend.delete_many(["a=b"])
        assert [] == list(backend.iter_data())


def test_what_is_no_payload_is_left_alone_and_reported(
    factory: S3DataFactory, backend: S3DataBackend, client: Any
) -> None:
    backend.store_data("a", b"x")
    for other in ("notes.txt", "-a.data", "below/b.data"):
        client.put_object(Bucket=factory.bucket, Key=f"{factory.prefix}/{other}", Body=b"theirs")

    assert ["a"] == [info.message_id for info in backend.iter_data()]
    found = {(finding.severity, finding.subject) for finding in backend.check()}
    where = f"s3://{factory.bucket}/{factory.prefix}"
    assert {(Severity.NOTICE, f"{where}/notes.txt"), (Severity.NOTICE, f"{where}/-a.data")} == found
    factory.destroy()
    assert {f"{factory.prefix}/{other}" for other in ("notes.txt", "-a.data", "below/b.data")} == keys(client, factory)


def test_of_many_other_objects_some_are_named_and_the_rest_counted(
    factory: S3DataFactory, backend: S3DataBackend, client: Any
) -> None:
    for number in range(23):
        client.put_object(Bucket=factory.bucket, Key=f"{factory.prefix}/{number}.txt", Body=b"")

    findings = list(backend.check())

    assert 21 == len(findings)
    assert findings[-1].text.startswith("3 more objects are no payloads")


def test_more_payloads_than_a_page_lists_are_iterated_and_deleted(moto: S3DataFactory) -> None:
    """On Moto's server, which has them in memory."""
    with replace(moto, concurrency=8).create() as backend:
        names = [f"m{number:04}" for number in range(1003)]
        assert [1] * 1003 == backend.store_many([(name, b"x") for name in names])
        assert names == [info.message_id for info in backend.iter_data()]
        assert [None] * 1003 == backend.delete_many(names)
        assert [] == list(backend.iter_data())


def test_a_payload_that_can_not_be_deleted_among_many_is_told() -> None:
    answer = (
        b"<DeleteResult><Error><Key>b.data</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    )

    def script(_: Asked) -> Any:
        return replace(error(200, ""), body=answer)

    with AnsweringServer(script) as server, server.factory.create() as backend:
        first, second, third = backend.delete_many(["a", "b", "c"])
    assert (None, None) == (first, third)
    assert isinstance(second, BackendError)
    assert "'b': bucket 'bucket' answered AccessDenied" in str(second)


# -- rules -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_bucket(moto: S3DataFactory) -> Iterator[S3DataBackend]:
    """A bucket of the test's own on Moto's server, which has all of S3's rules."""
    with replace(moto, bucket=f"rules-{moto.prefix}", prefix="out/box", create_bucket=True).create() as backend:
        yield backend


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}, [(Severity.ERROR, "deletes payloads by age")]),
        ({"Filter": {"Prefix": "out/"}, "Expiration": {"Days": 30}}, [(Severity.ERROR, "deletes payloads by age")]),
        ({"Filter": {"Prefix": "out/box/a"}, "Expiration": {"Days": 1}}, [(Severity.ERROR, "deletes payloads by age")]),
        ({"Filter": {"Prefix": "out/boxes"}, "Expiration": {"Days": 1}}, []),
        ({"Filter": {"Prefix": "other/"}, "Expiration": {"Days": 1}}, []),
        ({"Filter": {"Tag": {"Key": "k", "Value": "v"}}, "Expiration": {"Days": 1}}, []),
        (
            {"Filter": {"Prefix": ""}, "Transitions": [{"Days": 1, "StorageClass": "DEEP_ARCHIVE"}]},
            [(Severity.ERROR, "can't be read before they were restored")],
        ),
        ({"Filter": {"Prefix": ""}, "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}]}, []),
        ({"Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}, []),
    ],
)
def test_a_rule_that_takes_payloads_away_is_reported(
    own_bucket: S3DataBackend, rule: dict[str, Any], expected: list[tuple[Severity, str]]
) -> None:
    client: Any = own_bucket._store.client
    rules = [{"ID": "it", "Status": "Enabled", **rule}, {"ID": "off", "Status": "Disabled", **rule}]
    client.put_bucket_lifecycle_configuration(Bucket=own_bucket._store.bucket, LifecycleConfiguration={"Rules": rules})

    findings = list(own_bucket.check())

    assert [severity for severity, _ in expected] == [finding.severity for finding in findings]
    assert all(text in finding.text for (_, text), finding in zip(expected, findings, strict=True))
    assert all(finding.subject == "lifecycle rule 'it'" for finding in findings)


def test_a_bucket_that_keeps_what_is_deleted_is_reported(own_bucket: S3DataBackend) -> None:
    client: Any = own_bucket._store.client
    client.put_bucket_versioning(Bucket=own_bucket._store.bucket, VersioningConfiguration={"Status": "Enabled"})

    (finding,) = own_bucket.check()

    assert (Severity.NOTICE, "versioning") == (finding.severity, finding.subject)
    assert "NoncurrentVersionExpiration" in finding.text


@pytest.mark.parametrize(
    ("answer", "subjects"),
    [(error(403, "AccessDenied"), ["lifecycle rules", "versioning"]), (error(501, "NotImplemented"), [])],
    ids=["forbidden", "unknown to the server"],
)
def test_what_can_not_be_looked_at_is_reported(answer: Any, subjects: list[str]) -> None:
    listing = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"

    def script(asked: Asked) -> Any:
        return replace(answer, status=200, body=listing) if "list-type" in asked.operation else answer

    with AnsweringServer(script) as server, server.factory.create() as backend:
        findings = list(backend.check())
    assert subjects == [finding.subject for finding in findings]
    assert all(finding.severity is Severity.NOTICE and "allow s3:Get" in finding.text for finding in findings)


def test_how_payloads_are_kept_is_asked_for(moto: S3DataFactory) -> None:
    """On Moto's server; SeaweedFS takes no key of a key service."""
    with replace(moto, storage_class="STANDARD_IA", sse="aws:kms", kms_key="alias/mine").create() as backend:
        client: Any = backend._store.client
        for message_id, size in (("small", 1), ("large", 9 * 1024 * 1024)):
            backend.store_data(message_id, b"x" * size)
            found = client.head_object(**backend._store.at(message_id))
            assert ("STANDARD_IA", "aws:kms", "alias/mine") == (
                found["StorageClass"],
                found["ServerSideEncryption"],
                found["SSEKMSKeyId"],
            )


def test_the_versions_at_work_are_told(backend: S3DataBackend) -> None:
    versions = backend.versions()

    assert {"backend", "driver", "server"} == set(versions)
    assert versions["backend"].startswith("retryspool-s3-data ")


def test_a_destroyed_store_takes_its_uploads_along_and_nothing_else(factory: S3DataFactory) -> None:
    below = factory.in_namespace("below")
    with below.create() as other, factory.create() as backend:
        other.store_data("a", b"theirs")
        backend.store_many([(f"m{number}", b"x") for number in range(20)])
        writer = backend.get_data_writer("large")
        writer.write(b"x" * (factory.part_bytes + 1))

        factory.destroy()

        assert [] == [*backend.iter_data(), *backend.sweep(datetime.max.replace(tzinfo=UTC))]
        assert {"a": b"theirs"} == other.fetch_many(["a"], max_bytes=10)
        writer.abort()
