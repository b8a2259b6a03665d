"""The tests of data backends, a file for each part of the contract."""

from retryspool.conformance.data.batches import DataBatchTests
from retryspool.conformance.data.forks import ForkTests
from retryspool.conformance.data.histories import HistoryTests
from retryspool.conformance.data.ids import DataIdTests
from retryspool.conformance.data.iterating import DeletingAndIteratingTests
from retryspool.conformance.data.killing import KillTests
from retryspool.conformance.data.lifetime import LifetimeTests
from retryspool.conformance.data.model import ModelTests
from retryspool.conformance.data.network import NetworkTests
from retryspool.conformance.data.power import PowerCutTests
from retryspool.conformance.data.processes import ProcessTests
from retryspool.conformance.data.readers import ReaderTests
from retryspool.conformance.data.refusals import RefusalTests
from retryspool.conformance.data.restarts import RestartTests
from retryspool.conformance.data.sharing import SharingTests
from retryspool.conformance.data.storing import StoringTests
from retryspool.conformance.data.streaming import StreamingTests
from retryspool.conformance.data.sweeping import SweepingTests
from retryspool.conformance.data.writers import WriterTests
from retryspool.conformance.factories import FactoryTests
from retryspool.conformance.urls import UrlTests
from retryspool.data import DataBackend, DataFactory

__all__ = ["DataBackendSuite"]


class DataBackendSuite(
    HistoryTests,
    ModelTests,
    ProcessTests,
    KillTests,
    ForkTests,
    DataIdTests,
    StoringTests,
    WriterTests,
    ReaderTests,
    DeletingAndIteratingTests,
    DataBatchTests,
    SharingTests,
    StreamingTests,
    SweepingTests,
    LifetimeTests,
    PowerCutTests,
    RefusalTests,
    NetworkTests,
    RestartTests,
    FactoryTests[DataFactory, DataBackend],
    UrlTests[DataFactory, DataBackend],
):
    """Everything that a data backend promises.

    .. code-block:: python

        class TestMine(DataBackendSuite):
            def factory(self, namespace):
                return MyDataFactory(URL).in_namespace(namespace)
    """
