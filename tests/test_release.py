"""A tag publishes what it says, or nothing."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))


def check(tag: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, root / ".ci/tag.py", tag], capture_output=True, text=True, check=False, timeout=30
    )


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A workspace whose changelogs have a heading for the version of their package."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/tag.py").write_text((ROOT / ".ci/tag.py").read_text())
    for name in NAMES:
        package = tmp_path / "packages" / name
        package.mkdir(parents=True)
        (package / "pyproject.toml").write_text((ROOT / "packages" / name / "pyproject.toml").read_text())
        (package / "CHANGELOG.md").write_text(f"# Changelog\n\n## [{version(name)}] - 2025-01-01\n")
    return tmp_path


def version(name: str) -> str:
    found: str = tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text())["project"]["version"]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_tag_that_agrees_names_its_package(name: str, released: Path) -> None:
    done = check(f"{name}-v{version(name)}", released)

    assert (0, f"{name}\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("retryspool-core-v9.9.9", "says 9.9.9, packages/retryspool-core/pyproject.toml says"),
        ("retryspool-nosuch-v0.1.0", "there is no packages/retryspool-nosuch"),
        ("v0.1.0", "is not <distribution>-v<version>"),
        ("retryspool-core-v0.1", "is not <distribution>-v<version>"),
        ("retryspool-core-0.1.0", "is not <distribution>-v<version>"),
        ("retryspool/../core-v0.1.0", "is not <distribution>-v<version>"),
    ],
)
def test_a_tag_that_disagrees_is_refused_with_the_reason(tag: str, reason: str, released: Path) -> None:
    done = check(tag, released)

    assert (1, "") == (done.returncode, done.stdout)
    assert reason in done.stderr


def test_a_version_that_the_changelog_does_not_tell_of_is_refused(released: Path) -> None:
    (released / "packages/retryspool-core/CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n")

    done = check(f"retryspool-core-v{version('retryspool-core')}", released)

    assert done.returncode == 1
    assert "has no heading" in done.stderr
