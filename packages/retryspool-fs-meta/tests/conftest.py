from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from retryspool_fs_meta import FsMetaBackend, FsMetaFactory


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "meta"


@pytest.fixture
def backend(base: Path) -> Iterator[FsMetaBackend]:
    with FsMetaFactory(base).create() as backend:
        yield backend
