"""Every distribution is one folder, and all are alike: who knows one, knows where to look in the others."""

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
WORKSPACE = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
CORE = ROOT / "packages" / "retryspool-core"
EXTRAS_ONLY = "retryspool"
BY_NAME = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


def pyproject(package: Path) -> dict[str, Any]:
    return tomllib.loads((package / "pyproject.toml").read_text())


def requirements(package: Path) -> list[str]:
    project = pyproject(package)["project"]
    return [*project["dependencies"], *chain(*project.get("optional-dependencies", {}).values())]


def import_name(package: Path) -> str:
    return "retryspool" if package == CORE else package.name.replace("-", "_")


def test_every_folder_under_packages_is_a_distribution() -> None:
    assert PACKAGES == sorted(path for path in ROOT.glob("packages/*") if path.is_dir())


@BY_NAME
def test_a_package_is_named_as_its_folder(package: Path) -> None:
    assert package.name == pyproject(package)["project"]["name"]


@BY_NAME
def test_a_package_has_the_files_that_all_have(package: Path) -> None:
    expected = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "tests"}
    if package.name != EXTRAS_ONLY:
        expected.add("src")

    assert expected == {path.name for path in package.iterdir() if not path.name.startswith(".")} - {"dist"}
    assert list(package.glob("tests/**/test_*.py")), "no tests"


@BY_NAME
def test_a_package_holds_one_typed_module_that_its_wheel_ships(package: Path) -> None:
    """The core has pytest's plugin beside it: a run without the conformance suite imports nothing of RetrySpool."""
    if package.name == EXTRAS_ONLY:
        assert pyproject(package)["tool"]["hatch"]["build"]["targets"]["wheel"] == {"bypass-selection": True}
        return
    name = import_name(package)

    beside = ["pytest_retryspool.py"] if package == CORE else []

    assert {name, *beside} == {path.name for path in (package / "src").iterdir()} - {"__pycache__"}
    assert (package / "src" / name / "__init__.py").is_file()
    assert (package / "src" / name / "py.typed").is_file()
    assert pyproject(package)["tool"]["hatch"]["build"]["targets"]["wheel"] == {
        "packages": [f"src/{each}" for each in (name, *beside)]
    }


@BY_NAME
def test_packages_are_built_and_described_alike(package: Path) -> None:
    def common(package: Path) -> dict[str, Any]:
        project = pyproject(package)["project"]
        alike = ("readme", "license", "license-files", "requires-python", "authors", "keywords", "classifiers")
        return {"build-system": pyproject(package)["build-system"], **{key: project[key] for key in alike}}

    assert common(CORE) == common(package)


@BY_NAME
def test_classifiers_agree_with_the_python_that_is_required(package: Path) -> None:
    classifiers = pyproject(package)["project"]["classifiers"]
    prefix = "Programming Language :: Python :: "

    assert WORKSPACE["project"]["requires-python"] == pyproject(package)["project"]["requires-python"] == ">=3.11"
    assert ["3", "3.11", "3.12", "3.13"] == [line.removeprefix(prefix) for line in classifiers if prefix in line]


@BY_NAME
def test_links_lead_to_the_package_itself(package: Path) -> None:
    urls = {name: url.replace(CORE.name, package.name) for name, url in pyproject(CORE)["project"]["urls"].items()}

    assert urls == pyproject(package)["project"]["urls"]


@BY_NAME
def test_the_licence_is_the_same_everywhere(package: Path) -> None:
    assert (ROOT / "LICENSE").read_text() == (package / "LICENSE").read_text()


@BY_NAME
def test_siblings_are_asked_for_by_a_compatible_release_of_this_workspace(package: Path) -> None:
    siblings = {line for line in requirements(package) if line.startswith("retryspool-")}
    versions = {other.name: pyproject(other)["project"]["version"] for other in PACKAGES}

    for line in siblings:
        match = re.fullmatch(r"(?P<name>[a-z0-9-]+)~=(?P<bound>\d+\.\d+\.\d+)", line)
        assert match, f"{line} is no compatible-release bound"
        assert match["bound"].split(".")[:2] == versions[match["name"]].split(".")[:2], line
    sources = set(pyproject(package)["tool"].get("uv", {}).get("sources", {}))
    assert sources == {re.split(r"~=", line)[0] for line in siblings}


@BY_NAME
def test_every_package_but_the_core_needs_the_core(package: Path) -> None:
    needs_core = any(line.startswith("retryspool-core~=") for line in pyproject(package)["project"]["dependencies"])

    assert needs_core == (package != CORE)


@pytest.mark.parametrize("package", [p for p in PACKAGES if p.name.startswith("retryspool-fs-")], ids=lambda p: p.name)
def test_a_file_backend_needs_the_core_alone(package: Path) -> None:
    assert ["retryspool-core~=0.1.0"] == requirements(package)


def test_the_core_needs_pluggy_alone() -> None:
    assert ["pluggy"] == [re.split(r"[^a-z]", line)[0] for line in pyproject(CORE)["project"]["dependencies"]]


@BY_NAME
def test_the_changelog_tells_of_this_version(package: Path) -> None:
    version = pyproject(package)["project"]["version"]
    changelog = (package / "CHANGELOG.md").read_text()

    assert changelog.startswith(f"# Changelog of {package.name}\n")
    assert re.search(rf"^## \[(Unreleased|{re.escape(version)})\]", changelog, re.MULTILINE)


@BY_NAME
def test_the_readme_says_how_to_install_it_and_what_it_is_called(package: Path) -> None:
    readme = (package / "README.md").read_text()

    assert readme.startswith(f"# {package.name}\n")
    assert re.search(rf"^pip install .*\b{re.escape(package.name)}(?=[ \[\"\n])", readme, re.MULTILINE)
    assert f"`{import_name(package)}" in readme


@BY_NAME
def test_the_front_page_lists_it(package: Path) -> None:
    assert f"| [`{package.name}`](packages/{package.name}) |" in (ROOT / "README.md").read_text()


def test_the_workspace_itself_is_never_published() -> None:
    assert WORKSPACE["project"]["version"] == "0.0.0"
    assert "Private :: Do Not Upload" in WORKSPACE["project"]["classifiers"]
    assert WORKSPACE["tool"]["uv"]["package"] is False


def test_the_tools_know_every_package() -> None:
    modules = {import_name(package) for package in PACKAGES if package.name != EXTRAS_ONLY}
    sources = {str(package.relative_to(ROOT) / "src") for package in PACKAGES if package.name != EXTRAS_ONLY}

    assert sources | {"docs/examples/mail_relay/src"} == set(WORKSPACE["tool"]["mypy"]["mypy_path"].split(":"))
    assert modules == set(WORKSPACE["tool"]["importlinter"]["root_packages"])
    contracts = {contract["id"]: contract for contract in WORKSPACE["tool"]["importlinter"]["contracts"]}
    assert modules - {"retryspool"} == set(contracts["independence"]["modules"])
    assert modules - {"retryspool"} == set(contracts["siblings"]["forbidden_modules"])
    all_extras = pyproject(ROOT / "packages" / EXTRAS_ONLY)["project"]["optional-dependencies"]
    named = {line.split("~")[0] for extra, lines in all_extras.items() if extra != "all" for line in lines}
    assert {package.name for package in PACKAGES} - {EXTRAS_ONLY, CORE.name} == named
    assert [f"retryspool[{','.join(extra for extra in all_extras if extra != 'all')}]"] == all_extras["all"]


def test_the_lock_names_public_sources_only() -> None:
    hosts = set(re.findall(r"\b[a-z]+://[^/\"]*", (ROOT / "uv.lock").read_text()))

    assert hosts == {"https://pypi.org", "https://files.pythonhosted.org"}
