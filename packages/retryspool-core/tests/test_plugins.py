"""Plugins, found by name and by URL; what goes wrong with one breaks nothing but itself."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path
from types import ModuleType

import pytest
from minimal_backends import MinimalDataFactory, MinimalMetaFactory

from retryspool import plugins
from retryspool.data import DataFactory
from retryspool.errors import (
    DuplicatePluginError,
    InvalidUrlError,
    NotSupportedError,
    PluginError,
    PluginLoadError,
    UnknownPluginError,
)
from retryspool.memory import MemoryData, MemoryDataFactory, MemoryMeta, MemoryMetaFactory
from retryspool.meta import MetaFactory
from retryspool.middleware import Middleware
from retryspool.plugins import Registry, hookimpl

META = """
from minimal_backends import MinimalMetaFactory
from retryspool.plugins import hookimpl

class Factory(MinimalMetaFactory):
    name = {name!r}

@hookimpl
def retryspool_meta_factories():
    return [Factory]
"""

Install = Callable[..., None]


@pytest.fixture
def distributions() -> list[Distribution]:
    return []


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distributions: list[Distribution]) -> Iterator[Install]:
    """Install a distribution of one module with one entry point: real files, as pip would leave them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules: list[str] = []

    def install(distribution: str, code: str, *, entry_point: str = "") -> None:
        module = "plugin_" + distribution.replace("-", "_")
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[retryspool]\n{entry_point or distribution} = {module}\n")
        distributions.append(PathDistribution(info))

    yield install
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def registry(distributions: list[Distribution]) -> Registry:
    return Registry(lambda: [found for each in distributions for found in each.entry_points])


# -- what is installed -------------------------------------------------------------------------------------------------


def test_a_plugin_is_found_by_name(install: Install, registry: Registry) -> None:
    install("acme-meta", META.format(name="acme"))

    assert "acme" == registry.get_meta_factory("acme").name
    assert [("acme", "acme-meta")] == [(info.name, info.distribution) for info in registry.meta_factories()]
    assert ([], [], []) == (registry.data_factories(), registry.middlewares(), registry.failed)


def test_what_is_on_offer_is_sorted_by_name(install: Install, registry: Registry) -> None:
    for name in ("b", "c", "a"):
        install(f"{name}-meta", META.format(name=name))

    assert ["a", "b", "c"] == [info.name for info in registry.meta_factories()]


def test_one_plugin_may_offer_all_kinds(
    registry: Registry, distributions: list[Distribution], install: Install
) -> None:
    install(
        "all-in-one",
        """
from minimal_backends import MinimalDataFactory, MinimalMetaFactory
from retryspool.middleware import Middleware
from retryspool.plugins import hookimpl

class Rot13(Middleware):
    name = "rot13"

@hookimpl
def retryspool_meta_factories():
    return (MinimalMetaFactory,)

@hookimpl
def retryspool_data_factories():
    yield MinimalDataFactory

@hookimpl
def retryspool_middlewares():
    return [Rot13]
""",
    )

    assert MinimalMetaFactory is registry.get_meta_factory("minimal")
    assert MinimalDataFactory is registry.get_data_factory("minimal")
    assert "Rot13" == registry.get_middleware("rot13").__name__
    assert 1 == len(distributions)


def test_a_distribution_that_is_on_the_path_twice_is_one(
    install: Install, registry: Registry, distributions: list[Distribution]
) -> None:
    install("acme-meta", META.format(name="acme"))
    distributions.append(distributions[0])

    assert [] == list(registry.failed)
    assert "acme" == registry.get_meta_factory("acme").name


def test_plugins_load_when_they_are_first_asked_for_and_once(install: Install, registry: Registry) -> None:
    install("acme-meta", META.format(name="acme"))
    assert "plugin_acme_meta" not in sys.modules

    first = registry.get_meta_factory("acme")

    assert "plugin_acme_meta" in sys.modules
    assert first is registry.get_meta_factory("acme")


def test_a_module_may_mark_its_hooks_without_knowing_pluggy() -> None:
    module = ModuleType("marked")

    @hookimpl
    def retryspool_meta_factories() -> list[type[MetaFactory]]:
        return [MinimalMetaFactory]

    module.retryspool_meta_factories = retryspool_meta_factories  # type: ignore[attr-defined]
    assert [MinimalMetaFactory] == module.retryspool_meta_factories()


# -- unknown and ambiguous names ---------------------------------------------------------------------------------------


def test_an_unknown_name_lists_those_that_are_installed(install: Install, registry: Registry) -> None:
    install("b-meta", META.format(name="b"))
    install("a-meta", META.format(name="a"))

    with pytest.raises(UnknownPluginError, match=r"^there is no meta 'c'; installed: a, b$"):
        registry.get_meta_factory("c")


@pytest.mark.parametrize(
    ("kind", "name", "package"),
    [
        ("meta", "fs", "retryspool-fs-meta"),
        ("meta", "redis", "retryspool-redis-meta"),
        ("data", "s3", "retryspool-s3-data"),
        ("middleware", "encryption", "retryspool-encryption"),
    ],
)
def test_an_unknown_name_of_ours_says_what_to_install(registry: Registry, kind: str, name: str, package: str) -> None:
    look_up = {
        "meta": registry.get_meta_factory,
        "data": registry.get_data_factory,
        "middleware": registry.get_middleware,
    }

    with pytest.raises(UnknownPluginError) as unknown:
        look_up[kind](name)

    assert f"there is no {kind} {name!r}; installed: none. To add it: pip install {package}" == str(unknown.value)


def test_an_unknown_name_is_a_look_up_error(registry: Registry) -> None:
    with pytest.raises(LookupError):
        registry.get_data_factory("nothing")


def test_two_plugins_under_one_name_are_an_error_that_names_both(install: Install, registry: Registry) -> None:
    install("acme-meta", META.format(name="redis"))
    install("other-meta", META.format(name="other"))
    install("zeta-redis", META.format(name="redis"))

    with pytest.raises(DuplicatePluginError, match="'redis' is offered by both acme-meta and zeta-redis"):
        registry.get_meta_factory("redis")
    assert "other" == registry.get_meta_factory("other").name
    assert ["other", "redis", "redis"] == [info.name for info in registry.meta_factories()]


# -- plugins that fail -------------------------------------------------------------------------------------------------

BROKEN = {
    "module that fails": "raise RuntimeError('out of order')",
    "module that needs what is missing": "import no_such_module_of_ours",
    "hook that fails": """
from retryspool.plugins import hookimpl
@hookimpl
def retryspool_meta_factories():
    raise RuntimeError('out of order')
""",
    "hook of another shape": """
from retryspool.plugins import hookimpl
@hookimpl
def retryspool_meta_factories(colour):
    return []
""",
    "nothing of the kind": """
from retryspool.plugins import hookimpl
@hookimpl
def retryspool_meta_factories():
    return [object]
""",
    "factory without a name": """
from retryspool.meta import MetaFactory
from retryspool.plugins import hookimpl
class Nameless(MetaFactory):
    pass
@hookimpl
def retryspool_meta_factories():
    return [Nameless]
""",
    "None": """
from retryspool.plugins import hookimpl
@hookimpl
def retryspool_meta_factories():
    return None
""",
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_plugin_that_fails_breaks_nothing_but_itself(install: Install, registry: Registry, case: str) -> None:
    install("a-broken-one", BROKEN[case])
    install("acme-meta", META.format(name="acme"))

    assert "acme" == registry.get_meta_factory("acme").name
    assert ["acme"] == [info.name for info in registry.meta_factories()]
    assert [("a-broken-one", "a-broken-one")] == [(each.entry_point, each.distribution) for each in registry.failed]


@pytest.mark.parametrize("case", BROKEN)
def test_the_error_shows_when_a_missing_name_is_asked_for(install: Install, registry: Registry, case: str) -> None:
    install("a-broken-one", BROKEN[case])
    install("acme-meta", META.format(name="acme"))

    with pytest.raises(PluginLoadError) as failed:
        registry.get_meta_factory("broken")

    text = str(failed.value)
    assert text.startswith("there is no meta 'broken'; installed: acme. Failed to load: a-broken-one: ")
    assert failed.value.__cause__ is registry.failed[0].error
    assert repr(failed.value.__cause__) in text


def test_a_package_of_ours_that_is_broken_is_not_to_be_installed_again(install: Install, registry: Registry) -> None:
    install("retryspool-redis-meta", "import no_such_module_of_ours")

    with pytest.raises(PluginLoadError, match="retryspool-redis-meta: ModuleNotFoundError") as failed:
        registry.get_meta_factory("redis")
    assert "pip install" not in str(failed.value)


def test_a_package_that_is_missing_is_to_be_installed_though_another_is_broken(
    install: Install, registry: Registry
) -> None:
    install("a-broken-one", "raise RuntimeError")

    with pytest.raises(UnknownPluginError, match="To add it: pip install retryspool-redis-meta"):
        registry.get_meta_factory("redis")


# -- RETRYSPOOL_PLUGINS ------------------------------------------------------------------------------------------------


def test_a_restriction_keeps_the_others_from_loading(
    install: Install, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme-meta", META.format(name="redis"), entry_point="acme")
    install("zeta-meta", META.format(name="redis"), entry_point="zeta")
    install("a-broken-one", "raise RuntimeError", entry_point="broken")
    monkeypatch.setenv("RETRYSPOOL_PLUGINS", " zeta , unheard-of,")

    assert "plugin_zeta_meta" == registry.get_meta_factory("redis").__module__
    assert [] == list(registry.failed)
    assert not {"plugin_acme_meta", "plugin_a_broken_one"} & set(sys.modules)


def test_an_empty_restriction_loads_nothing_and_says_so(
    install: Install, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme-meta", META.format(name="acme"))
    monkeypatch.setenv("RETRYSPOOL_PLUGINS", "")

    with pytest.raises(
        UnknownPluginError, match=r"'acme'; installed: none \(RETRYSPOOL_PLUGINS keeps others from loading\)"
    ):
        registry.get_meta_factory("acme")


# -- by URL, of what is really installed -------------------------------------------------------------------------------


def test_the_backends_in_memory_are_plugins_like_any_other() -> None:
    assert MemoryMetaFactory is plugins.get_meta_factory("memory")
    assert MemoryDataFactory is plugins.get_data_factory("memory")
    assert "retryspool-core" in {info.distribution for info in plugins.registry.meta_factories()}


def test_a_backend_is_opened_by_url() -> None:
    with plugins.open_meta("memory:") as meta, plugins.open_data("MEMORY:") as data:
        assert (MemoryMeta, MemoryData) == (type(meta), type(data))


@pytest.mark.parametrize("open_it", [plugins.open_meta, plugins.open_data], ids=["meta", "data"])
def test_a_url_that_does_not_parse_is_refused(open_it: Callable[[str], object]) -> None:
    for url in ("./spool", "memory:x?colour=red"):
        with pytest.raises(InvalidUrlError):
            open_it(url)


@pytest.mark.parametrize("open_it", [plugins.open_meta, plugins.open_data], ids=["meta", "data"])
def test_a_url_of_an_unknown_scheme_is_an_unknown_name(open_it: Callable[[str], object]) -> None:
    with pytest.raises(PluginError, match=r"'no-such-one'; installed: .*memory") as unknown:
        open_it("no-such-one://me:hunter2@host/x")
    assert "hunter2" not in str(unknown.value)


SCHEMES = """
from typing import ClassVar
from minimal_backends import MinimalMetaFactory
from retryspool.meta import MetaFactory
from retryspool.plugins import hookimpl

class Factory(MinimalMetaFactory):
    name = {name!r}
    schemes: ClassVar[tuple[str, ...]] = {schemes!r}

    @classmethod
    def from_url(cls, url):
        raise LookupError(f"{{cls.name}} has {{url}}")

@hookimpl
def retryspool_meta_factories():
    return [Factory]
"""


def test_a_factory_may_have_further_schemes_which_are_no_names(install: Install, registry: Registry) -> None:
    install("acme-meta", SCHEMES.format(name="acme", schemes=("acmes", "acme+wide")))

    for url in ("acme://x", "acmes://x", "ACME+wide://x"):
        with pytest.raises(LookupError, match=re.escape(f"acme has {url}")):
            registry.open_meta(url)
    with pytest.raises(UnknownPluginError, match=r"'acmes'; installed: acme$"):
        registry.get_meta_factory("acmes")
    assert ["acme"] == [info.name for info in registry.meta_factories()]


def test_a_scheme_that_is_the_name_of_one_goes_before_that_of_another(install: Install, registry: Registry) -> None:
    install("acme-meta", SCHEMES.format(name="acme", schemes=("zeta",)))
    install("zeta-meta", SCHEMES.format(name="zeta", schemes=()))

    with pytest.raises(LookupError, match="zeta has zeta:x"):
        registry.open_meta("zeta:x")


def test_a_scheme_that_two_take_is_an_error_that_names_both(install: Install, registry: Registry) -> None:
    install("acme-meta", SCHEMES.format(name="acme", schemes=("wide",)))
    install("zeta-meta", SCHEMES.format(name="zeta", schemes=("wide",)))

    with pytest.raises(DuplicatePluginError, match="'wide' are taken by each of acme, zeta"):
        registry.open_meta("wide:x")


FACTORY_AT = pytest.mark.parametrize(
    "factory_at", [plugins.meta_factory_at, plugins.data_factory_at], ids=["meta", "data"]
)


@FACTORY_AT
@pytest.mark.parametrize("url", ["memory:x?namespace=tenant_1", "memory:x?namespace=tenant%5F1"])
def test_any_url_may_name_a_namespace(factory_at: Callable[[str], object], url: str) -> None:
    kind = type(factory_at("memory:x"))

    assert kind.from_url("memory:x").in_namespace("tenant_1") == factory_at(url)  # type: ignore[attr-defined]
    assert kind.from_url("memory:x") == factory_at("memory:x")  # type: ignore[attr-defined]


def test_a_namespace_is_a_store_of_its_own() -> None:
    urls = [f"memory:namespaces{setting}" for setting in ("", "?namespace=a", "?namespace=b")]
    for url in urls:
        with plugins.open_data(url) as data:
            data.store_data("id", url.encode())

    for url in urls:
        with plugins.open_data(url) as data, data.get_data_reader("id") as payload:
            assert url.encode() == payload.read()


def test_a_namespace_leaves_the_rest_of_the_url_as_it_was(install: Install, registry: Registry) -> None:
    install("acme-meta", SCHEMES.format(name="acme", schemes=()))

    for url, rest in (
        ("acme://u:p?w@h/x", "acme://u:p?w@h/x"),
        ("acme://h/x?namespace=a", "acme://h/x"),
        ("acme://h/x?b=1+%20&namespace=a&c=", "acme://h/x?b=1+%20&c="),
        ("acme://h/namespace=a?my-namespace=b", "acme://h/namespace=a?my-namespace=b"),
    ):
        with pytest.raises(LookupError, match=re.escape(f"acme has {rest}") + "$"):
            registry.open_meta(url)


@FACTORY_AT
@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ("namespace=a&namespace=b", "'namespace' is given twice"),
        ("namespace=", "namespace is ''"),
        ("namespace", "namespace is ''"),
        ("namespace=A", "namespace is 'A'"),
        ("namespace=a#b", "namespace is 'a#b'"),
    ],
)
def test_a_namespace_that_is_none_is_refused(factory_at: Callable[[str], object], settings: str, wrong: str) -> None:
    with pytest.raises(InvalidUrlError, match=wrong) as refused:
        factory_at(f"memory://me:hunter2@host/x?{settings}")
    assert "hunter2" not in str(refused.value)


def test_a_backend_without_namespaces_refuses_one(install: Install, registry: Registry) -> None:
    returning = SCHEMES.replace('raise LookupError(f"{{cls.name}} has {{url}}")', "return cls()")
    without = returning.replace("    @classmethod", "    in_namespace = MetaFactory.in_namespace\n\n    @classmethod")
    install("acme-meta", without.format(name="acme", schemes=()))

    with pytest.raises(NotSupportedError, match="Factory knows no namespaces: it can't make 'a' beside its store"):
        registry.open_meta("acme:x?namespace=a")


def test_kinds_have_names_of_their_own() -> None:
    assert not issubclass(MemoryMetaFactory, DataFactory)
    with pytest.raises(PluginError):
        plugins.get_middleware("memory")
    assert not issubclass(MemoryDataFactory, (MetaFactory, Middleware))
