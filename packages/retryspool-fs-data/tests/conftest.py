from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from retryspool_fs_data import FsDataBackend, FsDataFactory, temporary


@pytest.fixture(params=["without names", "with names"])
def temporary_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to write: file systems that can't do without names aren't at hand."""
    if request.param == "with names":
        monkeypatch.setattr(temporary, "_can_do_without_names", lambda *_: False)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def backend(base: Path) -> Iterator[FsDataBackend]:
    with FsDataFactory(base).create() as backend:
        yield backend
