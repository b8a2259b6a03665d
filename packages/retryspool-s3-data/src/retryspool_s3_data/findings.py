"""What endangers payloads: rules of the bucket, and objects where payloads are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from retryspool.model import Finding, Severity
from retryspool_s3_data.failures import code_of, status_of, translating
from retryspool_s3_data.layout import message_id_of
from retryspool_s3_data.listing import list_objects

if TYPE_CHECKING:
    from retryspool_s3_data.store import Store

__all__ = ["find_dangers"]

_MOST_SHOWN = 20
_NONE_THERE = ("NoSuchLifecycleConfiguration",)
_UNKNOWN_TO_SERVER = (405, 501)
_FORBIDDEN = 403
_TO_BE_RESTORED = ("GLACIER", "DEEP_ARCHIVE")


def find_dangers(store: Store) -> Iterator[Finding]:
    """Yield what there is."""
    yield from _lifecycle(store)
    yield from _versioning(store)
    yield from _others(store)


def _lifecycle(store: Store) -> Iterator[Finding]:
    rules, unseen = _look(store, "lifecycle rules", "s3:GetLifecycleConfiguration")
    if unseen is not None:
        yield unseen
    for rule in (rules or {}).get("Rules", []):
        if rule.get("Status") != "Enabled" or not _concerns(rule, store.listing_prefix):
            continue
        name = f"lifecycle rule {rule.get('ID', '')!r}"
        expiration = rule.get("Expiration", {})
        if "Days" in expiration or "Date" in expiration:
            text = (
                f"the bucket {store.bucket!r} deletes payloads by age, whether their messages are done with or not; "
                "take the prefix out of the rule"
            )
            yield Finding(Severity.ERROR, name, text)
        if any(each.get("StorageClass") in _TO_BE_RESTORED for each in rule.get("Transitions", [])):
            text = (
                f"the bucket {store.bucket!r} moves payloads to where they can't be read before they were restored; "
                "take the prefix out of the rule"
            )
            yield Finding(Severity.ERROR, name, text)


def _concerns(rule: dict[str, Any], prefix: str) -> bool:
    """Tell whether a rule may apply to objects under a prefix that have no tags."""
    condition = rule.get("Filter", {})
    both = condition.get("And", {})
    if "Tag" in condition or both.get("Tags"):
        return False
    its_prefix: str = rule.get("Prefix", condition.get("Prefix", both.get("Prefix", "")))
    return prefix.startswith(its_prefix) or its_prefix.startswith(prefix)


def _versioning(store: Store) -> Iterator[Finding]:
    versioning, unseen = _look(store, "versioning", "s3:GetBucketVersioning")
    if unseen is not None:
        yield unseen
    if (versioning or {}).get("Status") == "Enabled":
        text = (
            f"the bucket {store.bucket!r} keeps every payload that was deleted as a version that isn't shown; have a "
            "rule delete such versions after some days (NoncurrentVersionExpiration)"
        )
        yield Finding(Severity.NOTICE, "versioning", text)


def _look(store: Store, subject: str, right: str) -> tuple[dict[str, Any] | None, Finding | None]:
    """Ask for a setting of the bucket; return it, or what keeps it from being seen."""
    store.check()
    client: Any = store.client
    ask = client.get_bucket_versioning if subject == "versioning" else client.get_bucket_lifecycle_configuration
    with translating(store.call(f"checking the {subject} of bucket {store.bucket!r}")):
        try:
            return ask(Bucket=store.bucket), None
        except ClientError as error:
            if code_of(error) in _NONE_THERE or status_of(error) in _UNKNOWN_TO_SERVER:
                return None, None
            if status_of(error) != _FORBIDDEN:
                raise
            text = f"these credentials may not see it, so that nobody knows what it does to payloads; allow {right}"
            return None, Finding(Severity.NOTICE, subject, text)


def _others(store: Store) -> Iterator[Finding]:
    count = 0
    for found in list_objects(store):
        key = found["Key"]
        if message_id_of(store.prefix, key) is not None or key == store.listing_prefix:  # the latter: a "folder"
            continue
        count += 1
        if count <= _MOST_SHOWN:
            text = "this is no payload where payloads are, and is left alone; move it elsewhere"
            yield Finding(Severity.NOTICE, f"s3://{store.bucket}/{key}", text)
    if count > _MOST_SHOWN:
        text = f"{count - _MOST_SHOWN} more objects are no payloads either; move them elsewhere"
        yield Finding(Severity.NOTICE, f"s3://{store.bucket}/{store.listing_prefix}", text)
