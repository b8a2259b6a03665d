"""The contract, and nothing else: it's what the backend promises."""

from pathlib import Path

import pytest
from retryspool_onefile_meta import OneFileMetaFactory

from retryspool.conformance import MetaBackendSuite
from retryspool.meta import MetaFactory


class TestOneFileMeta(MetaBackendSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def factory(self, namespace: str) -> MetaFactory:
        return OneFileMetaFactory(self.folder / "records.json").in_namespace(namespace)

    def local_folder(self, namespace: str) -> Path:  # unlocks the power cuts
        return self.folder / namespace
