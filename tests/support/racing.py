"""Threads that start at the same moment, as in the conformance suite."""

from retryspool.conformance.racing import race

__all__ = ["race"]
