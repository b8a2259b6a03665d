"""Which tests of the conformance suite restart the server: they need one of their own."""

from __future__ import annotations

import pytest

_RESTARTS = {"META-56", "DATA-37"}


def is_restarted(request: pytest.FixtureRequest) -> bool:
    """Tell whether the test that asks is one of them."""
    marker = request.node.get_closest_marker("retryspool_conformance")
    return marker is not None and any(clause.id in _RESTARTS for clause in marker.args[0].clauses)
