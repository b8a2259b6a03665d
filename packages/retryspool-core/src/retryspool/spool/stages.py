"""The middleware of a spool: what new messages go through, and what those that are there are read by."""

from __future__ import annotations

from collections.abc import Sequence

from retryspool.errors import BackendError, InvalidOptionError, NotSupportedError, PluginError
from retryspool.middleware import Middleware
from retryspool.plugins import get_middleware, middleware_at

__all__ = ["Stages", "opened_stages"]


def opened_stages(middleware: Sequence[Middleware | str]) -> list[Middleware]:
    """Return middleware by name and by URL as objects; objects are left as they are.

    :raises PluginError: there's none of a name; the message says which there are, and what to install
    :raises InvalidUrlError: a URL doesn't parse, or has a setting that the middleware doesn't know
    """
    given = [middleware] if isinstance(middleware, str) else middleware
    return [middleware_at(stage) if isinstance(stage, str) else stage for stage in given]


class Stages:
    """The middleware that a spool was opened with, in the order that is declared.

    :raises InvalidOptionError: two have one name, or two seal headers
    """

    def __init__(self, middleware: Sequence[Middleware | str]) -> None:
        stages = opened_stages(middleware)
        self.encoding = tuple(stage for stage in stages if not stage.decode_only)
        """What new payloads go through."""
        self.conceals = any(stage.capabilities.conceals for stage in self.encoding)
        """Whether the record may not show a checksum of what was handed in."""
        self.names = ",".join(stage.name for stage in self.encoding)
        sealing = [stage for stage in self.encoding if stage.seals_headers]
        self.sealing = sealing[0] if sealing else None
        """What new headers are sealed by, if they are."""
        self._decoders = {name: stage for stage in reversed(stages) for name in stage.reads}
        self._decoders.update((stage.name, stage) for stage in stages)
        if len({stage.name for stage in stages}) != len(stages):
            msg = f"the names of middleware must differ: {', '.join(stage.name for stage in stages)}"
            raise InvalidOptionError(msg)
        if len(sealing) > 1:
            msg = f"headers are sealed once, not by each of {', '.join(stage.name for stage in sealing)}"
            raise InvalidOptionError(msg)

    def decoder(self, name: str, what: str) -> Middleware:
        """Return what reads what was encoded by this name: what the spool was opened with, or else an installed plugin.

        :param what: what is to be read, for the error
        :raises BackendError: there's none, or it needs a key; the message says what to open the spool with, or install
        """
        if name not in self._decoders:
            try:
                return get_middleware(name).for_reading()
            except NotSupportedError as error:
                msg = f"{what} is encoded with {name!r}; {error}"
                raise BackendError(msg) from None
            except PluginError as error:
                msg = f"{what} is encoded with {name!r}; open the spool with that middleware: {error}"
                raise BackendError(msg) from None
        return self._decoders[name]
