"""The tests of middleware, a file for each part of the contract."""

from retryspool.conformance.middleware.binding import BindingTests
from retryspool.conformance.middleware.damage import DamageTests
from retryspool.conformance.middleware.ending import EndingTests
from retryspool.conformance.middleware.files import FileTests
from retryspool.conformance.middleware.formats import FormatTests
from retryspool.conformance.middleware.headers import HeaderTests
from retryspool.conformance.middleware.round_trips import RoundTripTests
from retryspool.conformance.middleware.settings import SettingTests
from retryspool.conformance.middleware.sharing import SharingTests
from retryspool.conformance.middleware.streaming import StreamingTests

__all__ = ["MiddlewareSuite"]


class MiddlewareSuite(
    RoundTripTests,
    FileTests,
    EndingTests,
    DamageTests,
    BindingTests,
    HeaderTests,
    FormatTests,
    SettingTests,
    SharingTests,
    StreamingTests,
):
    """Everything that a middleware promises.

    .. code-block:: python

        class TestMine(MiddlewareSuite):
            def middleware(self):
                return MyMiddleware()
    """
