from pathlib import Path

import pytest

from retryspool_cli.exits import WrongUsageError
from retryspool_cli.settings import Given, load_settings


def test_an_option_goes_before_the_environment_which_goes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "retryspool.toml").write_text('spool = "from-file"')
    environment = {"RETRYSPOOL_SPOOL": "from-environment"}

    assert Path("from-option") == load_settings(Given(spool="from-option"), environment, tmp_path).spool
    assert Path("from-environment") == load_settings(Given(), environment, tmp_path).spool
    assert tmp_path / "from-file" == load_settings(Given(), {}, tmp_path).spool


def test_the_first_source_that_names_a_spool_decides_alone(tmp_path: Path) -> None:
    settings = load_settings(Given(meta="fs:m", data="fs:d"), {"RETRYSPOOL_SPOOL": "other"}, tmp_path)

    assert (None, "fs:m", "fs:d") == (settings.spool, settings.meta, settings.data)


def test_a_folder_in_the_file_is_relative_to_the_file(tmp_path: Path) -> None:
    config = tmp_path / "etc" / "mine.toml"
    config.parent.mkdir()
    config.write_text('spool = "../var"\n[queue]\nmax_attempts = 3\n[retry_policies]\nquick = "fixed:1s"')

    settings = load_settings(Given(config=str(config)), {}, tmp_path)

    assert (tmp_path / "var").resolve() == settings.spool.resolve() if settings.spool else None
    assert {"max_attempts": 3} == settings.queue
    assert {"quick": "fixed:1s"} == settings.retry_policies


def test_an_empty_variable_is_as_good_as_none(tmp_path: Path) -> None:
    with pytest.raises(WrongUsageError, match="which spool"):
        load_settings(Given(), {"RETRYSPOOL_SPOOL": ""}, tmp_path)


@pytest.mark.parametrize(
    ("given", "environment", "message"),
    [
        pytest.param(Given(), {}, "which spool", id="nothing"),
        pytest.param(Given(spool=""), {}, "--spool must be a text that isn't empty", id="empty"),
        pytest.param(Given(spool="a", meta="fs:b"), {}, "--spool names a whole spool; leave out --meta", id="both"),
        pytest.param(Given(meta="fs:a"), {}, "--meta is half a spool: --data is missing", id="half by option"),
        pytest.param(
            Given(),
            {"RETRYSPOOL_DATA": "fs:a"},
            "RETRYSPOOL_DATA is half a spool: RETRYSPOOL_META",
            id="half by variable",
        ),
        pytest.param(Given(config="nowhere.toml"), {}, "--config nowhere.toml: there is no such file", id="no file"),
    ],
)
def test_what_does_not_name_a_spool_is_an_error_that_says_why(
    given: Given, environment: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(WrongUsageError, match=message):
        load_settings(given, environment, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("spool = ", "retryspool.toml: Invalid value", id="no toml"),
        pytest.param("spool = 3", "spool must be a text", id="a number"),
        pytest.param('sopol = "x"', "there is no setting 'sopol'; there are: spool, meta", id="a mistyped name"),
        pytest.param('spool = "x"\nqueue = 3', "queue must be a table", id="no table"),
        pytest.param('meta = "fs:x"', "half a spool", id="half a spool"),
    ],
)
def test_a_file_that_is_not_right_is_an_error_that_names_it(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "retryspool.toml").write_text(content)

    with pytest.raises(WrongUsageError, match=message) as caught:
        load_settings(Given(), {}, tmp_path)
    assert "retryspool.toml" in str(caught.value)


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    settings = load_settings(Given(meta="redis://me:secret@host/0", data="fs:x"), {}, tmp_path)

    assert "secret" not in str(settings)


def test_middleware_is_named_by_option_environment_or_file_whoever_names_the_spool(tmp_path: Path) -> None:
    (tmp_path / "retryspool.toml").write_text('spool = "x"\nmiddleware = ["zstd:?level=3", "lz4"]')
    environment = {"RETRYSPOOL_MIDDLEWARE": "gzip  aes-256-gcm:?key-file=/k"}
    option = Given(spool="y", middleware=("zlib",))

    assert ("zstd:?level=3", "lz4") == load_settings(Given(spool="y"), {}, tmp_path).middleware
    assert ("gzip", "aes-256-gcm:?key-file=/k") == load_settings(Given(), environment, tmp_path).middleware
    assert ("zlib",) == load_settings(option, environment, tmp_path).middleware
    assert ("--spool", "y", "--middleware", "zlib") == load_settings(option, environment, tmp_path).address


def test_observers_are_named_by_environment_or_file_whoever_names_the_spool(tmp_path: Path) -> None:
    (tmp_path / "retryspool.toml").write_text('spool = "x"\nobservers = ["otel", "mine:Diary"]')

    assert ("otel", "mine:Diary") == load_settings(Given(spool="y"), {}, tmp_path).observers
    assert ("a", "b") == load_settings(Given(), {"RETRYSPOOL_OBSERVERS": " a  b"}, tmp_path).observers


@pytest.mark.parametrize("written", ['"zstd"', "3", "[3]", '[""]'])
@pytest.mark.parametrize("key", ["middleware", "observers"])
def test_what_is_a_list_of_names_in_the_file_is_nothing_else(key: str, written: str, tmp_path: Path) -> None:
    (tmp_path / "retryspool.toml").write_text(f'spool = "x"\n{key} = {written}')

    with pytest.raises(WrongUsageError, match=f"{key} must be a list of names"):
        load_settings(Given(), {}, tmp_path)
