"""What users write and name as `module:attribute`, above all handlers: `retryspool work --handler module:callable`."""

from __future__ import annotations

import importlib
import sys
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, cast

from retryspool_cli.exits import WrongUsageError

if TYPE_CHECKING:
    from retryspool.queue import Handle

__all__ = ["import_named", "load_handler"]


def load_handler(named: str) -> Handle:
    """Import a handler. Modules are found in the current directory too, as by `python -m`.

    :param named: `package.module:function`, or `package.module:object.method`
    :raises WrongUsageError: there's no such thing
    """
    handler = import_named("--handler", named)
    if not callable(handler) and not callable(getattr(handler, "handle", None)):
        msg = f"--handler {named!r}: it can't be called"
        raise WrongUsageError(msg)
    return cast("Handle", handler)


def import_named(option: str, named: str) -> object:
    """Import what an option names, `package.module:attribute`, from the current directory too.

    :raises WrongUsageError: there's no such thing
    """
    module_name, colon, attribute = named.partition(":")
    if not colon or not module_name or not attribute:
        msg = f"{option} {named!r}: write module:callable"
        raise WrongUsageError(msg)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # it's there, and imports something that isn't
        msg = f"{option} {named!r}: there is no module {error.name!r} here"
        raise WrongUsageError(msg) from None
    try:
        return attrgetter(attribute)(module)
    except AttributeError:
        msg = f"{option} {named!r}: {module_name} has no {attribute!r}"
        raise WrongUsageError(msg) from None
