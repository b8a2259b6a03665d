"""What Hypothesis makes messages of, as in the conformance suite; and how our own tests run it."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from retryspool.conformance.strategies import HOSTILE_IDS, TRICKY_IDS, message_ids, records

__all__ = ["FAST", "HOSTILE_IDS", "TRICKY_IDS", "message_ids", "records"]

FAST = settings(
    deadline=None,  # a time limit stands on every test; one on each example only finds busy machines
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # they make backends, a new one each example
)
