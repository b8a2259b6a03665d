"""The contract, and nothing else: it's what the backend promises."""

from pathlib import Path

import pytest
from retryspool_onefile_meta import OneFileMetaFactory

from retryspool.conformance import MetaBackendSuite, clause, deviation
from retryspool.meta import MetaBackend, MetaFactory


class TestOneFileMeta(MetaBackendSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def factory(self, namespace: str) -> MetaFactory:
        return OneFileMetaFactory(self.folder / "records.json").in_namespace(namespace)

    def local_folder(self, namespace: str) -> Path:  # unlocks the power cuts
        return self.folder / namespace

    @deviation(reason="the whole file is in memory at each look", issue="https://example.com/issues/1")
    @clause("META-36")
    def test_the_memory_of_an_iteration_does_not_grow_with_the_state(self, meta: MetaBackend) -> None:
        super().test_the_memory_of_an_iteration_does_not_grow_with_the_state(meta)
