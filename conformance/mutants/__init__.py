"""Backends with one real bug each: the suite must find it, by the clause that it breaks.

Many were found in the wild; the others are near misses of our own. `python conformance/mutants/run.py` shows what finds
what.
"""

from mutants import claims, lifetime, listings, notes, payloads, races, records, transactions
from mutants.kinds import MUTANTS, Mutant, MutantDataFactory, MutantMetaFactory

__all__ = [
    "MUTANTS",
    "Mutant",
    "MutantDataFactory",
    "MutantMetaFactory",
    "claims",
    "lifetime",
    "listings",
    "notes",
    "payloads",
    "races",
    "records",
    "transactions",
]
