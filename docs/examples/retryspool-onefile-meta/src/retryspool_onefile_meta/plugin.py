"""Offers the backend under the name `onefile`."""

from retryspool import hookimpl
from retryspool.meta import MetaFactory
from retryspool_onefile_meta.factory import OneFileMetaFactory


@hookimpl
def retryspool_meta_factories() -> list[type[MetaFactory]]:
    """Offer `onefile`."""
    return [OneFileMetaFactory]
