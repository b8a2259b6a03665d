"""What the tests of power cuts have in common: a store is cut at each moment of a workload, and opened again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import TypeVar, cast

from retryspool.conformance.children import children
from retryspool.conformance.powercut import Image, Recorded, lay_out, record
from retryspool.conformance.stores import Backend, Factory, Stores
from retryspool.conformance.suite import Suite, needs, needs_capability

__all__ = ["cut_everywhere"]

Then = TypeVar("Then")
"""What a step of a workload made of a message."""


def cut_everywhere(
    suite: Suite[Factory, Backend],
    stores: Stores[Factory, Backend],
    *,
    steps: Sequence[Callable[[Backend], dict[str, Then]]],
    ids: Iterable[str],
    troubles: Callable[[Backend, str, Recorded[Then], Image], list[str]],
) -> None:
    """Do all steps on a new store, cut the power at every moment of that, and open what each cut may leave.

    :param ids: the messages to look at
    :param troubles: returns what is wrong with a message after a cut
    :raises AssertionError: something is wrong with one
    """
    needs(suite, "local_folder")
    factory = stores.new()
    backend = stores.open(factory)
    needs_capability(backend.capabilities, "durable")
    backend.close()
    folder = suite.local_folder(stores.namespace_of(factory))
    shutil.rmtree(folder)

    with children(1) as (child,):
        recorded = cast("Recorded[Then]", child.call(record, factory, folder, steps))

    after = stores.new()
    there = suite.local_folder(stores.namespace_of(after))
    assert len(recorded.images) > 2 * len(steps), "the store was seen to sync nothing: its syncs aren't os.fsync"
    for image in recorded.images:
        shutil.rmtree(there, ignore_errors=True)
        lay_out(image, there)
        for _ in range(2):  # what a recovery made must survive another
            with closing(stores.open(after)) as opened:
                assert [] == [trouble for each in ids for trouble in troubles(opened, each, recorded, image)]
