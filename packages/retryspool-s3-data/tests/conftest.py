from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from backends import new_namespace

from retryspool_s3_data import S3DataFactory
from retryspool_s3_data.backend import S3DataBackend


@pytest.fixture
def seaweed(s3_url: str) -> S3DataFactory:
    """An empty store on SeaweedFS."""
    return S3DataFactory.from_url(s3_url).in_namespace(new_namespace())


@pytest.fixture
def moto(moto_url: str) -> S3DataFactory:
    """An empty store on Moto's server."""
    return S3DataFactory.from_url(moto_url).in_namespace(new_namespace())


@pytest.fixture(params=[pytest.param("seaweed", marks=pytest.mark.s3), pytest.param("moto", marks=pytest.mark.s3)])
def factory(request: pytest.FixtureRequest) -> S3DataFactory:
    """An empty store, on each server in turn, of the smallest parts that S3 allows."""
    return replace(request.getfixturevalue(request.param), part_bytes=5 * 1024 * 1024)


@pytest.fixture
def backend(factory: S3DataFactory) -> Iterator[S3DataBackend]:
    with factory.create() as backend:
        yield backend


@pytest.fixture
def client(backend: S3DataBackend) -> Any:
    """The backend's boto3 client, to look at the bucket past the backend."""
    return backend._store.client
