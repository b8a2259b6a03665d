"""What is in the bucket: payloads, what isn't one, and uploads that were never completed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from retryspool.data import DataInfo
from retryspool_s3_data.failures import is_unknown_upload, translating
from retryspool_s3_data.layout import message_id_of

if TYPE_CHECKING:
    from retryspool_s3_data.store import Store

Answer = Mapping[str, Any]
"""One of the things that an answer lists. boto3's types take all their fields for optional, which these aren't."""

__all__ = ["Answer", "list_objects", "list_payloads", "sweep_uploads"]


def list_objects(store: Store) -> Iterator[Answer]:
    """Yield each object right below the prefix, a thousand by each request. What is further below is another store."""
    token: dict[str, Any] = {}
    while True:
        store.check()
        with translating(store.call(f"listing the payloads in bucket {store.bucket!r}")):
            page = store.client.list_objects_v2(
                Bucket=store.bucket, Prefix=store.listing_prefix, Delimiter="/", **token
            )
        for found in page.get("Contents", []):
            store.check()
            yield found
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def list_payloads(store: Store) -> Iterator[DataInfo]:
    """Yield each payload."""
    for found in list_objects(store):
        message_id = message_id_of(store.prefix, found["Key"])
        if message_id is not None:
            yield DataInfo(message_id, found["Size"], found["LastModified"].astimezone(UTC))


def sweep_uploads(store: Store, before: datetime, *, dry_run: bool) -> Iterator[DataInfo]:
    """Abort each multipart upload of a payload that got its last part before a time, and yield it."""
    for upload in _list_uploads(store):
        message_id = message_id_of(store.prefix, upload["Key"])
        if message_id is None or upload["Initiated"] >= before:
            continue
        store.check()
        found = _look_at(store, message_id, upload)
        if found is None or found.modified >= before:
            continue
        if not dry_run and not _abort(store, message_id, upload):
            continue
        yield found


def _list_uploads(store: Store) -> Iterator[Answer]:
    markers: dict[str, Any] = {}
    while True:
        store.check()
        with translating(store.call(f"listing the uploads in bucket {store.bucket!r}")):
            page = store.client.list_multipart_uploads(
                Bucket=store.bucket, Prefix=store.listing_prefix, Delimiter="/", **markers
            )
        yield from page.get("Uploads", [])
        if not page.get("IsTruncated"):
            return
        markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _look_at(store: Store, message_id: str, upload: Answer) -> DataInfo | None:
    """Return the size of an upload's parts and when the last of them came; None if it isn't there any more."""
    size, modified = 0, upload["Initiated"].astimezone(UTC)
    marker: dict[str, Any] = {}
    while True:
        with translating(store.call(f"looking at an upload of message {message_id!r}")):
            try:
                page: Any = store.client.list_parts(**_which(store, upload), **marker)
            except ClientError as error:
                if is_unknown_upload(error):
                    return None
                raise
        for part in page.get("Parts", []):
            size += part["Size"]
            modified = max(modified, part["LastModified"].astimezone(UTC))
        if not page.get("IsTruncated"):
            return DataInfo(message_id, size, modified)
        marker = {"PartNumberMarker": page["NextPartNumberMarker"]}


def _abort(store: Store, message_id: str, upload: Answer) -> bool:
    with translating(store.call(f"aborting an upload of message {message_id!r}")):
        try:
            store.client.abort_multipart_upload(**_which(store, upload))
        except ClientError as error:
            if is_unknown_upload(error):
                return False
            raise
    return True


def _which(store: Store, upload: Answer) -> dict[str, Any]:
    return {"Bucket": store.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
