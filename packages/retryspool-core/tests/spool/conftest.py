from __future__ import annotations

from collections.abc import Iterator

import pytest
from spools import FaultyData, FaultyMeta, Steps

from retryspool import Spool


@pytest.fixture
def steps() -> Steps:
    """What the backends of `spool` have done, in order; told to fail at one of these."""
    return Steps()


@pytest.fixture
def spool(steps: Steps) -> Iterator[Spool]:
    with Spool(FaultyMeta(steps), FaultyData(steps)) as opened:
        yield opened
