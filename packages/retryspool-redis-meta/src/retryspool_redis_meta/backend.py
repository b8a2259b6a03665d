"""The metadata backend that keeps records in Redis."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import ClassVar, cast

from retryspool import records
from retryspool.errors import CorruptRecordError, MessageNotFoundError, StorageError
from retryspool.ids import validate_message_id
from retryspool.meta import (
    Delete,
    ListOptions,
    ListResult,
    MetaBackend,
    MetaCapabilities,
    Move,
    Store,
    Update,
    Write,
    WriteResult,
    check_claim,
    check_note,
    check_writes,
)
from retryspool.model import Finding, MessageMetadata, State
from retryspool_redis_meta.codec import decode, quoted, state_text, time_of
from retryspool_redis_meta.link import Link
from retryspool_redis_meta.listing import listed
from retryspool_redis_meta.notes import get_notes, set_note
from retryspool_redis_meta.scripts import CLAIM, GET, OLDEST, WALK, WRITE
from retryspool_redis_meta.server import Server
from retryspool_redis_meta.survey import survey
from retryspool_redis_meta.waiting import Changes
from retryspool_redis_meta.writes import Renew, carry_out, carry_out_one, lease_parts

__all__ = ["RedisMetaBackend"]

_CLAIMS_AT_ONCE = 200
"""How many messages one step of the server claims: some milliseconds."""
_MOST_AHEAD = 1000


class RedisMetaBackend(MetaBackend):
    """Records in Redis. Made by `RedisMetaFactory`."""

    capabilities: ClassVar[MetaCapabilities] = MetaCapabilities(
        processes=True, durable=True, server_clock=True, contract="1.1"
    )

    def __init__(self, link: Link, base: str, server: Server, last_change: bytes) -> None:
        self._link = link
        self._base = base
        self._server = server
        self._changes = Changes(link, base, last_change)

    def __repr__(self) -> str:
        return f"RedisMetaBackend({self._link.where!r}, keys={self._base!r})"

    # -- one record ----------------------------------------------------------------------------------------------------

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        return self._written(Store(metadata))

    def get_meta(self, message_id: str) -> MessageMetadata:
        validate_message_id(message_id)
        nothing = (None, None)
        head, body = self._link.ask("HMGET", f"{self._base}:m:{message_id}", "head", "body", refused=nothing)
        if head is None or body is None:
            head, body = self._looked_closer(message_id)
        return decode(message_id, head, body)

    def _looked_closer(self, message_id: str) -> tuple[bytes, bytes]:
        """Tell what is missing from what is damaged, in one step: two commands may have a store between them."""
        answer: bytes | list[bytes] = self._link.read(GET, message_id)
        if answer == b"missing":
            raise MessageNotFoundError(message_id)
        if not isinstance(answer, list):
            return b"", b""
        head, body = answer
        return head, body

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        return self._written(Update(metadata, if_version))

    def delete_meta(self, message_id: str, *, if_version: int | None = None) -> None:
        validate_message_id(message_id)
        carry_out_one(self._link, Delete(message_id, if_version))

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        validate_message_id(message_id)
        return self._written(Move(message_id, from_state, to_state))

    def _written(self, write: Store | Update | Move) -> MessageMetadata:
        return cast("MessageMetadata", carry_out_one(self._link, write))

    # -- many ----------------------------------------------------------------------------------------------------------

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        check_writes(writes)
        return carry_out(self._link, writes)

    def renew(self, claims: Sequence[MessageMetadata], *, lease: timedelta) -> list[MessageMetadata | StorageError]:
        records.validate_lease(lease)
        for claim in claims:
            validate_message_id(claim.id)
        results = carry_out(self._link, [Renew(claim, lease) for claim in claims], durable=False)
        return cast("list[MessageMetadata | StorageError]", results)

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
        states = [state_text(state) for state in sources]
        excluded = [quoted(route) for route in exclude_routes]
        claimed: list[MessageMetadata] = []
        while len(claimed) < limit:
            at_once = min(limit - len(claimed), _CLAIMS_AT_ONCE)
            sought = (quoted(owner), *lease_parts(lease), at_once, int(oldest_first), len(states))
            answer: list[bytes] = self._link.write(CLAIM, *sought, *states, *excluded, durable=False)
            claimed += self._readable(answer, State.ACTIVE)
            if len(answer) < 3 * at_once:
                break
        return claimed

    def _readable(self, answer: Sequence[bytes], state: State) -> Iterator[MessageMetadata]:
        """Yield the claimed records that can be read, and take the others out of the way of claims."""
        for at in range(0, len(answer), 3):
            message_id, head, body = answer[at : at + 3]
            try:
                yield decode(message_id.decode(), head, body)
            except CorruptRecordError:
                self._link.write(WRITE, 0, "damaged", message_id, state_text(state), "", "", durable=False)

    def list_messages(self, state: State, options: ListOptions = ListOptions()) -> ListResult:  # noqa: B008 -- frozen
        if options.limit == 0 and options.since is None:
            count = self.get_state_count(state)
            return ListResult(message_ids=(), total=count, has_more=options.offset < count)
        return listed(self._link, state, options)

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:
        after: bytes = b""
        at_once = max(1, min(batch_size, _MOST_AHEAD))
        answer: list[bytes] = self._link.read(WALK, state_text(state), after, at_once)
        while answer:
            for at in range(0, len(answer), 3):
                self._link.check()
                message_id, head, body = answer[at : at + 3]
                try:
                    yield decode(message_id.decode(), head, body)
                except CorruptRecordError:  # check() reports it
                    continue
            after = answer[-3]
            if len(answer) < 3 * at_once:
                return
            answer = self._link.read(WALK, state_text(state), after, at_once)

    # -- counts, changes, health ---------------------------------------------------------------------------------------

    def get_state_count(self, state: State) -> int:
        """Return how many messages are in the state."""
        return int(self._link.ask("HGET", f"{self._base}:counts", state_text(state)) or 0)

    def get_oldest_due(self, state: State) -> datetime | None:
        """Return the earliest time at which a message of the state is due or was."""
        oldest: bytes | None = self._link.read(OLDEST, state_text(state))
        return None if oldest is None else time_of(oldest)

    def wait_for_change(self, timeout: float) -> bool:
        self._link.check()
        return self._changes.wait(timeout)

    def get_notes(self) -> Mapping[str, str]:
        """Return all notes that can be read, by name."""
        return get_notes(self._link, self._base)

    def set_note(self, name: str, text: str | None) -> None:
        """Set a note, or remove it if `text` is None."""
        check_note(name, text)
        set_note(self._link, name, text)

    def check(self) -> Iterator[Finding]:
        self._link.check()
        return survey(self._link, self._base)

    def versions(self) -> Mapping[str, str]:
        return {
            "backend": f"retryspool-redis-meta {version('retryspool-redis-meta')}",
            "driver": f"redis-py {version('redis')}",
            "server": self._server.name,
        }

    def close(self) -> None:
        self._link.close()
