from __future__ import annotations

import bz2
import gzip
import io
import lzma
import mailbox
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retryspool import NEVER, ZERO_TIME, Filter, InvalidMetadataError, InvalidOptionError, MessageMetadata, Spool, State
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.queue.bulk import select
from retryspool.transfer import (
    Aside,
    FolderSink,
    Found,
    Imported,
    MaildirSink,
    MboxSink,
    Sink,
    TarSink,
    export_messages,
    import_messages,
    read_files,
    read_maildir,
    read_mbox,
    read_queue_folder,
    read_tar,
)
from retryspool.transfer.documents import from_document, to_document

TEMPLATE = MessageMetadata("template", max_attempts=7, route="imported")
MAIL = b"From: me@example.com\nTo: you@example.com\n\nHello\nFrom here\n>From there\n\nBye\n"
PAYLOADS = (
    b"",
    b"x",
    b"\n",
    b"\n\n",
    MAIL,
    b"From the start\n\nFrom the end",
    b">" * 70_000 + b"From \n",
    bytes(range(256)),
)


def new_spool() -> Spool:
    return Spool(MemoryMeta(), MemoryData())


@pytest.fixture
def spool() -> Iterator[Spool]:
    with new_spool() as spool:
        yield spool


def contents(spool: Spool) -> dict[str, tuple[MessageMetadata, bytes]]:
    found = {}
    for record in select(spool, Filter()):
        with spool.open_payload(record) as payload:
            found[record.id] = (replace(record, version=0, updated=ZERO_TIME), payload.read())
    return found


def filled(spool: Spool) -> Spool:
    for number, body in enumerate(PAYLOADS):
        for state in (State.INCOMING, State.DEFERRED, State.HOLD, State.BOUNCE, State.ARCHIVED):
            record = MessageMetadata(
                f"{state}.{number}=A@b+c",
                state=state,
                attempts=2,
                max_attempts=5,
                created=datetime(2020, 1, 1, 1, 1, 1, 123456, UTC),
                next_retry=NEVER if number else ZERO_TIME,
                last_error="no answer: 'ä'\nreally",
                priority=3,
                headers={"to": "ä", "mail-from": "<me@example.com>", "x-retryspool-bounce-error": "e"},
                retry_policy_name="p",
                deliveries=3,
                route="r",
            )
            spool.enqueue(record, body, is_new=True)
    return spool


Kind = tuple[Callable[[Path], Sink], Callable[[Path], Iterator[Found | Aside]]]
KINDS: dict[str, Kind] = {
    "folder": (FolderSink, lambda path: read_files(path, TEMPLATE)),
    "maildir": (MaildirSink, lambda path: read_maildir(path, TEMPLATE)),
    "mbox": (MboxSink, lambda path: read_mbox(path, TEMPLATE)),
    "out.tar": (TarSink, lambda path: read_tar(path, TEMPLATE)),
    "out.tar.gz": (TarSink, lambda path: read_tar(path, TEMPLATE)),
}
BY_KIND = pytest.mark.parametrize("kind", KINDS)


@BY_KIND
def test_an_import_of_an_export_brings_back_what_was(spool: Spool, tmp_path: Path, kind: str) -> None:
    sink, read = KINDS[kind]
    expected = contents(filled(spool))

    with sink(tmp_path / kind) as to:
        exported = export_messages(spool, select(spool, Filter()), to)
    with new_spool() as other:
        imported = import_messages(other, read(tmp_path / kind))

        assert (len(expected), {}) == (exported.messages, dict(exported.failed))
        assert (len(expected), 0, {}) == (imported.messages, imported.existing, dict(imported.aside))
        assert exported.size == imported.size
        assert expected == contents(other)


@BY_KIND
def test_an_import_that_is_run_again_stores_nothing_twice(spool: Spool, tmp_path: Path, kind: str) -> None:
    sink, read = KINDS[kind]
    with sink(tmp_path / kind) as to:
        export_messages(filled(spool), select(spool, Filter()), to)
    spool.delete("hold.1=A@b+c")

    imported = import_messages(spool, read(tmp_path / kind))

    assert (1, 5 * len(PAYLOADS) - 1) == (imported.messages, imported.existing)


@BY_KIND
def test_a_dry_run_stores_nothing(spool: Spool, tmp_path: Path, kind: str) -> None:
    sink, read = KINDS[kind]
    with sink(tmp_path / kind) as to:
        export_messages(filled(spool), select(spool, Filter()), to)
    spool.delete("hold.1=A@b+c")

    imported = import_messages(spool, read(tmp_path / kind), dry_run=True)

    assert (1, 5 * len(PAYLOADS) - 1) == (imported.messages, imported.existing)
    assert "hold.1=A@b+c" not in contents(spool)


@pytest.mark.parametrize("kind", ["folder", "maildir"])
def test_an_export_that_was_cut_off_goes_on_where_it_was(spool: Spool, tmp_path: Path, kind: str) -> None:
    sink, read = KINDS[kind]
    records = list(select(filled(spool), Filter()))
    with pytest.raises(KeyboardInterrupt), sink(tmp_path / kind) as to:
        export_messages(spool, _interrupted(records, 5), to)
    spool.meta.update_meta(records[0].id, replace(records[0], last_error="another"))

    with sink(tmp_path / kind) as to:
        exported = export_messages(spool, records, to)
    with new_spool() as other:
        import_messages(other, read(tmp_path / kind))
        assert contents(spool) == contents(other)

    assert (4, len(records) - 4) == (exported.existing, exported.messages)
    assert [] == list(tmp_path.rglob(".tmp.*"))


def _interrupted(records: list[MessageMetadata], after: int) -> Iterator[MessageMetadata]:
    yield from records[:after]
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["mbox", "out.tar"])
def test_an_export_to_one_file_is_whole_or_not_there(spool: Spool, tmp_path: Path, kind: str) -> None:
    sink, _ = KINDS[kind]
    records = list(select(filled(spool), Filter()))

    with pytest.raises(KeyboardInterrupt), sink(tmp_path / kind) as to:
        export_messages(spool, _interrupted(records, 5), to)
    assert [] == list(tmp_path.iterdir())

    sink(tmp_path / kind).close()
    with pytest.raises(InvalidOptionError, match="there already"):
        sink(tmp_path / kind)


@BY_KIND
def test_the_folders_of_an_export_survive_with_it(
    spool: Spool, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    monkeypatch.setattr(os, "fsync", lambda fd: synced.add(str(Path(f"/proc/self/fd/{fd}").readlink())))

    with KINDS[kind][0](tmp_path / "new" / "newer" / kind) as to:
        export_messages(spool, select(spool, Filter()), to)

    assert {str(tmp_path), str(tmp_path / "new"), str(tmp_path / "new" / "newer")} <= synced


@BY_KIND
def test_a_damaged_message_is_told_and_is_in_no_export(spool: Spool, tmp_path: Path, kind: str) -> None:
    sink, read = KINDS[kind]
    for name in ("good", "damaged", "gone", "done"):
        spool.enqueue(MessageMetadata(name), b"payload", is_new=True)
    records = list(select(spool, Filter()))
    spool.data.store_data("damaged", b"payl")
    spool.data.delete_data("gone")
    spool.delete("done")

    with sink(tmp_path / kind) as to:
        exported = export_messages(spool, records, to)

    assert (1, 1, 2) == (exported.messages, exported.gone, exported.failed.total())
    assert ["good"] == [each.record.id for each in read(tmp_path / kind) if isinstance(each, Found)]


@BY_KIND
def test_a_record_that_does_not_vouch_for_its_payload_gets_a_document_that_does(
    spool: Spool, tmp_path: Path, kind: str
) -> None:
    sink, read = KINDS[kind]
    spool.enqueue(MessageMetadata("a"), b"payload", is_new=True)
    spool.meta.update_meta("a", replace(spool.get("a"), size=0, checksum=""))

    with sink(tmp_path / kind) as to:
        export_messages(spool, select(spool, Filter()), to)
        assert kind not in {"folder", "maildir"} or to.has(spool.get("a"))
    with new_spool() as other:
        assert 1 == import_messages(other, read(tmp_path / kind)).messages
        assert b"payload" == contents(other)["a"][1]


def test_a_message_that_a_worker_has_is_exported_as_if_it_had_not(spool: Spool, tmp_path: Path) -> None:
    spool.enqueue(MessageMetadata("a", state=State.DEFERRED), b"x", is_new=True)
    record = replace(
        spool.get("a"), state=State.ACTIVE, lease_owner="o", lease_expires=NEVER, claimed_from=State.DEFERRED
    )
    spool.meta.update_meta("a", record)

    with FolderSink(tmp_path / "out") as to:
        export_messages(spool, select(spool, Filter()), to)
    with new_spool() as other:
        import_messages(other, read_files(tmp_path / "out", TEMPLATE))
        assert (State.DEFERRED, "") == ((found := other.get("a")).state, found.lease_owner)


# -- files of others ---------------------------------------------------------------------------------------------------


def test_a_maildir_is_imported_by_its_unique_names(spool: Spool, tmp_path: Path) -> None:
    box = mailbox.Maildir(tmp_path / "box")
    for number in range(3):
        box.add(f"Subject: {number}\n\nx\n")
    names = [path.name for path in (tmp_path / "box/new").iterdir()]
    (tmp_path / "box/new" / names[0]).rename(tmp_path / "box/cur" / f"{names[0]}:2,RS")
    (tmp_path / "box/cur/odd,S=12:2,").write_bytes(b"odd")
    (tmp_path / "box/tmp/half").write_bytes(b"half")

    first = import_messages(spool, read_maildir(tmp_path / "box", TEMPLATE))
    (tmp_path / "box/new" / names[1]).rename(tmp_path / "box/cur" / f"{names[1]}:2,S")
    again = import_messages(spool, read_maildir(tmp_path / "box", TEMPLATE))

    assert (4, 0, 4) == (first.messages, again.messages, again.existing)
    found = contents(spool)
    odd = next(message_id for message_id in found if message_id.startswith("file-"))
    assert {*names, odd} == set(found)
    assert ("odd,S=12", b"odd") == (found[odd][0].headers["imported-name"], found[odd][1])
    assert ("imported", 7) == (found[odd][0].route, found[odd][0].max_attempts)


def test_a_mailbox_is_imported_without_its_quotes(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "box").write_bytes(
        b"From me@example.com Thu Jan  1 00:00:00 1970\nSubject: 1\n\nHello\n>From here\n>>From there\nFrom nowhere\n"
        b"\nFrom MAILER-DAEMON Thu Jan  1 00:00:00 1970\nSubject: 2\n\n\n"
        b"\nFrom me@example.com Thu Jan  1 00:00:00 1970\nno end"
    )

    assert 3 == import_messages(spool, read_mbox(tmp_path / "box", TEMPLATE)).messages
    with (tmp_path / "box").open("ab") as file:
        file.write(b"\n\nFrom you Thu Jan  1 00:00:00 1970\nnew\n")
    again = import_messages(spool, read_mbox(tmp_path / "box", TEMPLATE))

    assert {
        (b"Subject: 1\n\nHello\nFrom here\n>From there\nFrom nowhere\n", "me@example.com"),
        (b"Subject: 2\n\n\n", None),
        (b"no end", "me@example.com"),
        (b"no end\n", "me@example.com"),
        (b"new\n", "you"),
    } == {(body, record.headers.get("mail-from")) for record, body in contents(spool).values()}
    assert 2 == again.existing


def test_a_mailbox_reads_as_python_reads_it(spool: Spool, tmp_path: Path) -> None:
    filled(spool)
    with MboxSink(tmp_path / "box") as to:
        exported = export_messages(spool, select(spool, Filter()), to)

    box = mailbox.mbox(tmp_path / "box")
    assert exported.messages == len(box)
    box.close()


def test_what_is_no_mailbox_is_refused(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "box").write_bytes(b"Subject: x\n")
    (tmp_path / "empty").write_bytes(b"")

    with pytest.raises(InvalidOptionError, match="no mailbox"):
        import_messages(spool, read_mbox(tmp_path / "box", TEMPLATE))
    assert 0 == import_messages(spool, read_mbox(tmp_path / "empty", TEMPLATE)).messages


def test_a_queue_of_folders_is_imported_by_its_states(spool: Spool, tmp_path: Path) -> None:
    for name in ("incoming/A1", "active/B2", "deferred/C/C3", "hold/D4", "defer/C/C3", "corrupt/E5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())

    imported = import_messages(spool, read_queue_folder(tmp_path, TEMPLATE))

    assert 4 == imported.messages
    assert {
        "A1": (State.INCOMING, b"incoming/A1"),
        "B2": (State.INCOMING, b"active/B2"),
        "C3": (State.DEFERRED, b"deferred/C/C3"),
        "D4": (State.HOLD, b"hold/D4"),
    } == {message_id: (record.state, body) for message_id, (record, body) in contents(spool).items()}
    for message, read in (("no queue", read_queue_folder), ("no Maildir", read_maildir)):
        with pytest.raises(InvalidOptionError, match=message):
            list(read(tmp_path / "hold", TEMPLATE))


def test_files_are_imported_by_their_names(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a.eml", "b c.eml", "deep/a.eml", ".hidden", "lonely.data", "lone.json"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / os.fsdecode(b"\xff\xfe")).write_bytes(b"bytes")

    assert 5 == import_messages(spool, read_files(tmp_path, TEMPLATE)).messages
    assert 1 == import_messages(spool, read_files(tmp_path, TEMPLATE, deep=True)).messages

    found = {body: message_id for message_id, (_, body) in contents(spool).items()}
    assert "a.eml" == found[b"a.eml"]
    assert found[b"deep/a.eml"].startswith("a.eml-")
    assert found[b"b c.eml"].startswith("file-")


def test_links_pipes_and_what_cannot_be_read_are_left_aside(spool: Spool, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    told: list[tuple[str, str]] = []

    imported = import_messages(
        spool, read_files(folder, TEMPLATE, deep=True), told=lambda name, reason: told.append((Path(name).name, reason))
    )

    assert {("link", "a symbolic link"), ("loop", "a symbolic link"), ("pipe", "no regular file")} == set(told)
    assert (0, 3) == (imported.messages, imported.aside.total())


def test_a_file_that_becomes_a_link_after_it_was_found_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    found = list(read_files(tmp_path, TEMPLATE))
    (tmp_path / "a").unlink()
    (tmp_path / "a").symlink_to("/etc/passwd")

    assert (0, 1) == ((imported := import_messages(spool, found)).messages, imported.aside.total())


def test_an_export_that_somebody_has_changed_is_left_aside(spool: Spool, tmp_path: Path) -> None:
    for name in ("longer", "other", "torn", "renamed", "active", "good"):
        spool.enqueue(MessageMetadata(name), b"payload", is_new=True)
    with FolderSink(tmp_path / "out") as to:
        export_messages(spool, select(spool, Filter()), to)
    out = tmp_path / "out"
    (out / "longer.data").write_bytes(b"payload!")
    (out / "other.data").write_bytes(b"PAYLOAD")
    (out / "torn.json").write_text('{"id": "to')
    (out / "renamed.json").write_text((out / "good.json").read_text())
    (out / "active.json").write_text((out / "active.json").read_text().replace("incoming", "active"))

    with new_spool() as other:
        imported = import_messages(other, read_files(out, TEMPLATE))
        assert (1, 5) == (imported.messages, imported.aside.total())
        assert ["good"] == list(contents(other))
        assert ["good"] == [info.message_id for info in other.data.iter_data()]


def test_nothing_in_an_archive_is_unpacked_to_where_it_says(spool: Spool, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        for name in ("../../evil", "/etc/evil", "plain"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo(f"kind{kind!r}")
            member.type = kind
            member.linkname = "plain"
            archive.addfile(member)

    imported = import_messages(spool, read_tar(tmp_path / "evil.tar", TEMPLATE))

    assert (3, 4) == (imported.messages, imported.aside.total())
    assert {"plain"} < set(contents(spool))
    assert ["evil.tar"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("kind", ["out.tar", "out.tar.gz"])
def test_an_archive_that_was_cut_off_gives_what_it_has(spool: Spool, tmp_path: Path, kind: str) -> None:
    _export_twenty(spool, tmp_path / kind)
    whole = (tmp_path / kind).read_bytes()
    (tmp_path / kind).write_bytes(whole[: len(whole) // 2])

    with new_spool() as other:
        imported = import_messages(other, read_tar(tmp_path / kind, TEMPLATE))
        assert 5 <= imported.messages < 20
        assert imported.aside
        assert imported.messages == len(contents(other)) == len(list(other.data.iter_data()))
    (tmp_path / kind).write_bytes(b"no archive")
    with pytest.raises(InvalidOptionError, match="no archive"):
        list(read_tar(tmp_path / kind, TEMPLATE))


@pytest.mark.parametrize("header", [b"", b"a header of which", b"\xff" * 512])
def test_an_archive_without_its_end_mark_is_told_of(spool: Spool, tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "out.tar"
    _export_twenty(spool, path)
    with tarfile.open(path) as archive:
        tenth = archive.getmembers()[20].offset
    whole = path.read_bytes()
    path.write_bytes(whole[:tenth] + header + whole[tenth + 512 :] * (len(header) == 512))

    with new_spool() as other:
        imported = import_messages(other, read_tar(path, TEMPLATE))

    assert 10 == imported.messages
    ((reason, _),) = imported.aside.items()
    assert "no end mark" in reason


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bz2", "xz"])
@pytest.mark.parametrize("where", ["in a file", "in the checksum"])
def test_what_is_damaged_within_a_compressed_archive_is_told_of(
    tmp_path: Path, compress: Callable[[bytes], bytes], where: str
) -> None:
    path = tmp_path / "plain.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(40):  # bzip2 reads 900 kB at once, or none of them
            archive.addfile(*_file(f"m{number}", os.urandom(50_000)))
    raw = bytearray(compress(path.read_bytes()))
    raw[len(raw) // 2 if where == "in a file" else -6] ^= 1
    path.write_bytes(raw)

    with new_spool() as other:
        imported = import_messages(other, read_tar(path, TEMPLATE))

    assert imported.aside


def _file(name: str, content: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, io.BytesIO(content)


def _export_twenty(spool: Spool, path: Path) -> None:
    for number in range(20):
        spool.enqueue(MessageMetadata(f"m{number}"), os.urandom(50_000), is_new=True)
    with TarSink(path) as to:
        export_messages(spool, select(spool, Filter()), to)


@given(
    text=st.text(max_size=20).filter(lambda text: text.isprintable()),
    number=st.integers(0, 2**63 - 1),
    time=st.datetimes(timezones=st.just(UTC)),
)
def test_a_document_says_all_that_a_record_does(text: str, number: int, time: datetime) -> None:
    record = MessageMetadata(
        "a",
        attempts=number,
        size=number,
        next_retry=time,
        created=time,
        last_error=text,
        route=text,
        headers={"h": text},
    )

    assert record == from_document(to_document(record))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "{}", '{"id": "../x", "state": "hold"}', '{"id": 7, "state": "hold"}',
     '{"id": "a", "state": "gone"}',
     '{"id": "a", "state": "hold", "attempts": -1}', '{"id": "a", "state": "hold", "attempts": "1"}',
     '{"id": "a", "state": "hold", "created": "yesterday"}', '{"id": "a", "state": "hold", "created": "2020-01-01"}',
     '{"id": "a", "state": "hold", "headers": {"a": 1}}', '{"id": "a", "state": "hold", "headers": []}',
     '{"id": "a", "state": "hold", "route": null}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises((InvalidMetadataError, InvalidOptionError, ValueError)) as caught:
        from_document(text)
    assert "retryspool.errors" == type(caught.value).__module__


def test_headers_that_only_this_spool_understands_are_in_no_document() -> None:
    record = MessageMetadata("a", headers={"x-retryspool-encoding": "zstd", "x-retryspool-sealed": "x", "to": "you"})

    assert {"to": "you"} == from_document(to_document(record)).headers


def test_progress_is_told(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    told: list[int] = []

    def tell(imported: Imported) -> None:
        told.append(imported.messages)

    import_messages(spool, read_files(tmp_path, TEMPLATE), progress=tell)

    assert [1] == told


def test_an_export_beside_other_files_leaves_them_alone(spool: Spool, tmp_path: Path) -> None:
    spool.enqueue(MessageMetadata("a"), b"x", is_new=True)
    (tmp_path / "a.data").symlink_to("/etc/hostname")
    before = Path("/etc/hostname").read_bytes()

    with FolderSink(tmp_path) as to:
        export_messages(spool, select(spool, Filter()), to)

    assert before == Path("/etc/hostname").read_bytes()
    assert b"x" == (tmp_path / "a.data").read_bytes()
    shutil.rmtree(tmp_path)
