"""The conformance suite: what proves a backend, ours or anybody's, against the contract (docs/contract.md).

Without a line to write, for any backend that is installed:

.. code-block:: sh

    pytest --pyargs retryspool.conformance --retryspool-meta=URL --retryspool-report=report.md

In a project's own tests, with hooks that unlock more:

.. code-block:: python

    from retryspool.conformance import MetaBackendSuite


    class TestMine(MetaBackendSuite):
        def factory(self, namespace):
            return MyMetaFactory(URL).in_namespace(namespace)

It needs the extra: `pip install "retryspool-core[conformance]"`.
"""

from retryspool.conformance.contract import CLAUSES, CONTRACT_VERSION, Clause
from retryspool.conformance.data import DataBackendSuite
from retryspool.conformance.marks import Level, clause, deviation
from retryspool.conformance.meta import MetaBackendSuite
from retryspool.conformance.middleware import MiddlewareSuite
from retryspool.conformance.middleware_suite import OldFormat
from retryspool.conformance.suite import Address, Through, Transaction

__all__ = [
    "CLAUSES",
    "CONTRACT_VERSION",
    "Address",
    "Clause",
    "DataBackendSuite",
    "Level",
    "MetaBackendSuite",
    "MiddlewareSuite",
    "OldFormat",
    "Through",
    "Transaction",
    "clause",
    "deviation",
]
