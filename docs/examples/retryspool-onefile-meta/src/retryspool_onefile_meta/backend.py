"""The backend: what the contract asks for, on top of a file."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from operator import attrgetter
from typing import ClassVar

from retryspool import records as rules
from retryspool.deadline import check_deadline
from retryspool.errors import BackendClosedError, MessageExistsError, MessageNotFoundError
from retryspool.ids import validate_message_id
from retryspool.meta import ListOptions, ListResult, MetaBackend, MetaCapabilities, check_claim
from retryspool.model import MessageMetadata, State, utc_now
from retryspool_onefile_meta.store import FileStore

__all__ = ["OneFileMeta"]

Records = dict[str, MessageMetadata]


class OneFileMeta(MetaBackend):
    """All records in one file. What isn't here, `renew`, `apply` and others, is done by the defaults."""

    capabilities: ClassVar[MetaCapabilities] = MetaCapabilities(
        processes=True, durable=True, server_clock=False, contract="1.1"
    )

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._closed = False

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        rules.validate_record(message_id, metadata)
        with self._changing() as records:
            if message_id in records:
                raise MessageExistsError(message_id)
            records[message_id] = rules.created(metadata, utc_now())
            return records[message_id]

    def get_meta(self, message_id: str) -> MessageMetadata:
        validate_message_id(message_id)
        return _find(self._read(), message_id)

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        rules.validate_record(message_id, metadata)
        with self._changing() as records:
            records[message_id] = rules.updated(_find(records, message_id), metadata, utc_now(), if_version)
            return records[message_id]

    def delete_meta(self, message_id: str, *, if_version: int | None = None) -> None:
        validate_message_id(message_id)
        with self._changing() as records:
            rules.check_version(_find(records, message_id), if_version)
            del records[message_id]

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        validate_message_id(message_id)
        with self._changing() as records:
            records[message_id] = rules.moved(_find(records, message_id), from_state, to_state, utc_now())
            return records[message_id]

    def claim(
        self,
        sources: Sequence[State],
        *,
        limit: int,
        lease: timedelta,
        owner: str,
        exclude_routes: Collection[str] = (),
        oldest_first: bool = False,
    ) -> list[MessageMetadata]:
        check_claim(sources, limit=limit, lease=lease, owner=owner)
        claimed: list[MessageMetadata] = []
        with self._changing() as records:
            now = utc_now()
            for state in dict.fromkeys((State.ACTIVE, *sources)):  # first those whose lease is over
                due = [
                    record
                    for record in records.values()
                    if record.state is state
                    and rules.is_claimable(record, now)
                    and record.route not in exclude_routes
                    and (state is not State.ACTIVE or record.claimed_from in {None, *sources})
                ]
                due.sort(key=rules.age_rank if oldest_first else rules.claim_rank)
                claimed += due[: limit - len(claimed)]
            claimed = [rules.claimed(record, owner=owner, lease=lease, now=now) for record in claimed]
            records |= {record.id: record for record in claimed}
        return claimed

    def list_messages(self, state: State, options: ListOptions = ListOptions()) -> ListResult:
        found = [record for record in self._read().values() if record.state is state]
        if options.since is not None:
            found = [record for record in found if max(record.created, record.updated) >= options.since]
        found.sort(key=attrgetter(options.sort_by.value, "id"), reverse=options.descending)
        page = found[options.offset : options.offset + options.limit]
        return ListResult(
            message_ids=tuple(record.id for record in page),
            total=len(found),
            has_more=options.offset + len(page) < len(found),
        )

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:
        for message_id in sorted(self._read()):  # ids stay: whatever else moves meanwhile, none is missed or repeated
            record = self._read().get(message_id)
            if record is not None and record.state is state:
                yield record

    def versions(self) -> Mapping[str, str]:
        return {"backend": f"retryspool-onefile-meta {version('retryspool-onefile-meta')}"}

    def close(self) -> None:
        self._closed = True

    def _read(self) -> Records:
        self._check()
        return self._store.read()

    @contextmanager
    def _changing(self) -> Generator[Records]:
        self._check()
        with self._store.changing() as records:
            yield records

    def _check(self) -> None:
        if self._closed:
            raise BackendClosedError
        check_deadline()


def _find(records: Records, message_id: str) -> MessageMetadata:
    try:
        return records[message_id]
    except KeyError:
        raise MessageNotFoundError(message_id) from None
