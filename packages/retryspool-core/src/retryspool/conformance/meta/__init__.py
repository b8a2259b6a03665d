"""The tests of metadata backends, a file for each part of the contract."""

from retryspool.conformance.factories import FactoryTests
from retryspool.conformance.meta.ageing import AgeingTests
from retryspool.conformance.meta.batches import BatchTests
from retryspool.conformance.meta.checking import CheckTests
from retryspool.conformance.meta.claims import ClaimTests
from retryspool.conformance.meta.clocks import ClockTests
from retryspool.conformance.meta.counters import CounterTests
from retryspool.conformance.meta.damage import DamageTests
from retryspool.conformance.meta.deadlines import DeadlineTests
from retryspool.conformance.meta.forks import ForkTests
from retryspool.conformance.meta.histories import HistoryTests
from retryspool.conformance.meta.iterating import IterationTests
from retryspool.conformance.meta.joining import JoiningTests
from retryspool.conformance.meta.kept_notes import KeptNoteTests
from retryspool.conformance.meta.killing import KillTests
from retryspool.conformance.meta.leases import LeaseTests
from retryspool.conformance.meta.lifetime import LifetimeTests
from retryspool.conformance.meta.listings import ListingTests
from retryspool.conformance.meta.model import ModelTests
from retryspool.conformance.meta.moves import MoveTests
from retryspool.conformance.meta.network import NetworkTests
from retryspool.conformance.meta.note_network import NoteNetworkTests
from retryspool.conformance.meta.notes import NoteTests
from retryspool.conformance.meta.power import PowerCutTests
from retryspool.conformance.meta.processes import ProcessTests, TakeOverTests
from retryspool.conformance.meta.records import RecordTests
from retryspool.conformance.meta.refusals import RefusalTests
from retryspool.conformance.meta.restarts import RestartTests
from retryspool.conformance.meta.updates import UpdateTests
from retryspool.conformance.meta.waiting import WaitingTests
from retryspool.conformance.urls import UrlTests
from retryspool.meta import MetaBackend, MetaFactory

__all__ = ["MetaBackendSuite"]


class MetaBackendSuite(
    HistoryTests,
    TakeOverTests,
    ProcessTests,
    ModelTests,
    KillTests,
    ForkTests,
    RecordTests,
    UpdateTests,
    MoveTests,
    ClaimTests,
    AgeingTests,
    LeaseTests,
    ClockTests,
    BatchTests,
    ListingTests,
    IterationTests,
    CounterTests,
    DamageTests,
    WaitingTests,
    NoteTests,
    KeptNoteTests,
    NoteNetworkTests,
    JoiningTests,
    LifetimeTests,
    DeadlineTests,
    CheckTests,
    PowerCutTests,
    RefusalTests,
    NetworkTests,
    RestartTests,
    FactoryTests[MetaFactory, MetaBackend],
    UrlTests[MetaFactory, MetaBackend],
):
    """Everything that a metadata backend promises.

    .. code-block:: python

        class TestMine(MetaBackendSuite):
            def factory(self, namespace):
                return MyMetaFactory(URL).in_namespace(namespace)
    """
