from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import redis
import yaml
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from retryspool import BackendUnavailableError, Message, PermanentError, Queue, RetryableError, Spool, State
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.queue import Counters
from retryspool_cli.exits import CommandError, WrongUsageError
from retryspool_cli.servers import RedisServer
from retryspool_cli.watch.collector import COUNTERS
from retryspool_cli.watch.endpoint import Endpoint
from retryspool_cli.watch.opening import parse_listen

from .conftest import Cli, wait_for

SELECTOR = re.compile(r'(?:by \((\w+)\) \()?\b(retryspool_\w+)(?:\{(\w+)=~?"([^"]*)"\})?')
"""Of an expression in PromQL: what it's grouped by, a metric, and a label with its values."""

Values = Mapping[tuple[str, ...], float]


@pytest.fixture
def watched() -> Iterator[Queue]:
    with Queue(Spool(MemoryMeta(), MemoryData())) as queue:
        yield queue


@pytest.fixture
def endpoint(watched: Queue) -> Iterator[Endpoint]:
    with Endpoint(watched, "127.0.0.1", 0) as endpoint:
        yield endpoint


def get(endpoint: Endpoint, path: str, **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(endpoint.url.removeprefix("http://"), timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers["Content-Type"]
    finally:
        connection.close()


def scrape(endpoint: Endpoint) -> dict[str, Metric]:
    status, text, _ = get(endpoint, "/metrics")
    assert 200 == status
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(endpoint: Endpoint) -> Values:
    """Scrape; returns samples by name and values of their labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in scrape(endpoint).values()
        for sample in family.samples
    }


def handle_some(queue: Queue) -> None:
    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        if message.route == "never":
            raise PermanentError("no")
        if message.route == "later" and message.attempts < 2:
            raise RetryableError("not yet", after=0)

    for route in ("now", "later", "never"):
        queue.enqueue(b"", route=route)
    queue.run(until_idle=True)


def test_every_counter_is_there_with_its_name_and_help(watched: Queue, endpoint: Endpoint) -> None:
    handle_some(watched)

    families = scrape(endpoint)

    assert set(COUNTERS) == set(Counters().snapshot())
    for name, value in watched.counters.snapshot().items():
        family = families[f"retryspool_{name}"]
        assert ("counter", COUNTERS[name]) == (family.type, family.documentation)
        assert [(f"retryspool_{name}_total", value)] == [(sample.name, sample.value) for sample in family.samples]


def test_what_is_scraped_is_valid_as_openmetrics_too(watched: Queue, endpoint: Endpoint) -> None:
    handle_some(watched)

    _, text, content_type = get(endpoint, "/metrics", Accept="application/openmetrics-text; version=1.0.0")

    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(text)}
    assert {"retryspool_delivered", "retryspool_attempts", "retryspool_messages"} < names
    assert all(name.startswith(("retryspool_", "process_")) for name in names)


def test_the_docs_name_every_metric(watched: Queue, endpoint: Endpoint) -> None:
    handle_some(watched)
    page = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    docs = page.partition("## Watching it\n")[2].partition("\n## ")[0]
    counters = {f"retryspool_{name}" for name in COUNTERS}

    families = {name for name in scrape(endpoint) if not name.startswith("process_")}

    assert set() == {name for name in families - counters if f"`{name}`" not in docs}
    assert set() == {name for name in re.findall(r"retryspool_\w+", docs) if not known(name, families)}


def test_the_rules_in_the_docs_are_of_metrics_labels_and_values_that_there_are(
    watched: Queue, endpoint: Endpoint
) -> None:
    handle_some(watched)
    page = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    (written,) = re.findall(r"```yaml\n(groups:\n.*?)```", page, re.DOTALL)
    (group,) = yaml.safe_load(written)["groups"]
    samples = [sample for family in scrape(endpoint).values() for sample in family.samples]

    assert len(group["rules"]) == len({rule["alert"] for rule in group["rules"]})
    for rule in group["rules"]:
        assert {"alert", "expr"} <= set(rule) <= {"alert", "expr", "for"}
        assert re.fullmatch(r"[1-9][0-9]*m", rule.get("for", "1m"))
        selectors = SELECTOR.findall(rule["expr"])
        assert selectors, rule
        for by, name, label, values in selectors:
            found = [sample.labels for sample in samples if sample.name == name]
            assert found, f"{rule['alert']}: there is no {name}"
            assert all(not by or by in labels for labels in found), f"{rule['alert']}: {name} has no label {by!r}"
            missing = set(values.split("|") if values else []) - {labels.get(label, "") for labels in found}
            assert set() == missing, f"{rule['alert']}: {name} has no such {label}"


def known(name: str, families: set[str]) -> bool:
    return name in {*families, *(f"{family}_total" for family in families), "retryspool_NAME_total"}


def test_handlers_delays_and_attempts_are_histograms(watched: Queue, endpoint: Endpoint) -> None:
    handle_some(watched)

    found = values(endpoint)

    assert 2 == found["retryspool_handler_duration_seconds_count", "returned"]
    assert 3 == found["retryspool_handler_duration_seconds_count", "raised"]
    assert 5 == found["retryspool_start_delay_seconds_count",]
    assert 5 == found["retryspool_start_delay_seconds_bucket", "+Inf"]
    assert (2, 4) == (found["retryspool_attempts_count", "delivered"], found["retryspool_attempts_sum", "delivered"])
    assert 1 == found["retryspool_attempts_bucket", "1.0", "delivered"]
    assert 2 == found["retryspool_attempts_bucket", "3.0", "delivered"]
    assert 1 == found["retryspool_attempts_count", "bounced"]


def test_what_waits_is_told_by_state(watched: Queue, endpoint: Endpoint) -> None:
    watched.hold(watched.enqueue(b"").id)
    watched.enqueue(b"", not_before=-7200)
    watched.enqueue(b"", not_before=7200)
    watched.pause("a")

    found = values(endpoint)

    assert (2, 1, 0) == tuple(found["retryspool_messages", state] for state in ("incoming", "hold", "bounce"))
    assert 7200 == pytest.approx(found["retryspool_oldest_due_age_seconds", "incoming"], abs=60)
    assert 0 == found["retryspool_oldest_due_age_seconds", "deferred"]
    assert (0, 1) == (found["retryspool_paused",], found["retryspool_paused_routes",])
    assert {1} == {found["retryspool_store_up", store] for store in ("records", "payloads")}
    assert 0 == found["retryspool_worker_running",]
    assert 0 <= found["retryspool_backlog_age_seconds",] < 60
    assert found["process_open_fds",] > 0


def test_destinations_are_told_by_state(watched: Queue, endpoint: Endpoint) -> None:
    handle_some(watched)

    found = values(endpoint)

    assert len(watched.routes()) == sum(found["retryspool_routes", each] for each in ("open", "resting", "probing"))


def test_a_worker_is_ready_once_it_claims_and_until_it_stops(watched: Queue, endpoint: Endpoint) -> None:
    watched.add_handler(lambda _message, _payload: None)
    assert (200, {"alive": True}) == (get(endpoint, "/healthz")[0], json.loads(get(endpoint, "/healthz")[1]))
    before, body, content_type = get(endpoint, "/readyz")
    assert (503, "application/json") == (before, content_type)
    assert "it takes no messages" in json.loads(body)["worker"]

    watched.start()
    status, body, _ = get(endpoint, "/readyz")
    assert 200 == status
    assert {"ready": True, "records": "ok", "payloads": "ok", "worker": "ok", "paused": False} == json.loads(body)
    assert 1 == values(endpoint)["retryspool_worker_running",]

    watched.stop()
    assert 503 == get(endpoint, "/readyz")[0]
    assert 200 == get(endpoint, "/healthz")[0]


def test_a_paused_worker_is_ready_and_says_so(watched: Queue, endpoint: Endpoint) -> None:
    watched.add_handler(lambda _message, _payload: None)
    watched.pause()
    watched.start()

    status, body, _ = get(endpoint, "/readyz")

    assert (200, True) == (status, json.loads(body)["paused"])


def test_a_worker_that_cannot_claim_is_not_ready(
    watched: Queue, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise BackendUnavailableError("down", outcome="none")

    monkeypatch.setattr(watched.spool.meta, "claim", fail)
    monkeypatch.setattr("retryspool_cli.watch.health.STALLED_S", 0.05)
    watched.add_handler(lambda _message, _payload: None)
    watched.start()

    wait_for(lambda: get(endpoint, "/readyz")[0] == 503)
    assert "hasn't been able to claim" in json.loads(get(endpoint, "/readyz")[1])["worker"]
    assert values(endpoint)["retryspool_claim_stalled_seconds",] > 0.05


@pytest.mark.parametrize("store", ["records", "payloads"])
def test_a_store_that_is_down_is_told(
    store: str, watched: Queue, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise BackendUnavailableError("down", outcome="none")

    monkeypatch.setattr(watched.spool.meta if store == "records" else watched.spool.data, _look(store), fail)
    watched.add_handler(lambda _message, _payload: None)
    watched.start()

    status, body, _ = get(endpoint, "/readyz")

    assert (503, "BackendUnavailableError: down") == (status, json.loads(body)[store])
    assert 0 == values(endpoint)["retryspool_store_up", store]


def _look(store: str) -> str:
    return "get_state_count" if store == "records" else "get_data_reader"


def test_a_store_that_hangs_holds_up_neither_readers_nor_the_worker(
    watched: Queue, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    assert 1 == values(endpoint)["retryspool_store_up", "records"]
    records: Any = endpoint._server.stores.records
    monkeypatch.setattr(records, "_max_age_s", 0)
    monkeypatch.setattr(records, "_calls_again_at", 0)
    monkeypatch.setattr(watched.spool.meta, "get_state_count", lambda _: go.wait(50))
    monkeypatch.setattr("retryspool_cli.watch.stores.HANGING_S", 0.5)
    delivered = threading.Event()
    watched.add_handler(lambda _message, _payload: delivered.set())
    watched.start()
    wait_for(lambda: values(endpoint)["retryspool_store_up", "records"] == 0)

    watched.enqueue(b"")
    assert delivered.wait(20)
    found = values(endpoint)
    status, body, _ = get(endpoint, "/readyz")
    go.set()

    assert 0 == found["retryspool_messages", "incoming"]
    assert found["retryspool_backlog_age_seconds",] > 0.5
    assert (503, True) == (status, "no answer for" in json.loads(body)["records"])


def test_clients_that_say_nothing_hold_up_nobody(watched: Queue, endpoint: Endpoint) -> None:
    del watched
    address = ("127.0.0.1", int(endpoint.url.rpartition(":")[2]))
    silent = [socket.create_connection(address) for _ in range(20)]
    try:
        assert 200 == get(endpoint, "/healthz")[0]
        endpoint.stop()
    finally:
        for each in silent:
            each.close()


def test_what_is_not_there_is_not_found(watched: Queue, endpoint: Endpoint) -> None:
    del watched
    status, body, _ = get(endpoint, "/")

    assert (404, ["/metrics", "/healthz", "/readyz"]) == (status, json.loads(body)["there"])


def test_a_place_that_is_taken_is_told(watched: Queue, endpoint: Endpoint) -> None:
    with pytest.raises(CommandError, match=r"--metrics: can't listen at 127\.0\.0\.1:"):
        Endpoint(watched, "127.0.0.1", int(endpoint.url.rpartition(":")[2]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9464", ("127.0.0.1", 9464)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("worker.local:80", ("worker.local", 80)),
    ],
)
def test_where_to_listen_is_written_so(text: str, expected: tuple[str, int]) -> None:
    assert expected == parse_listen(text)


@pytest.mark.parametrize("text", ["", ":9464", "x", "127.0.0.1", "127.0.0.1:x", "::1:9464", "h:65536", "h:-1", "h:"])
def test_what_is_no_place_to_listen_at_is_refused(text: str) -> None:
    with pytest.raises(WrongUsageError, match="is not where to listen"):
        parse_listen(text)


def test_what_is_missing_is_told_with_the_line_that_installs_it(
    cli: Cli, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    del queue
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    for name in ("collector", "endpoint"):
        monkeypatch.delitem(sys.modules, f"retryspool_cli.watch.{name}")

    result = cli("work", "--exec", "true", "--metrics", "0", "--drain")

    assert 2 == result.code
    assert "pip install 'retryspool-cli[metrics]'" in result.err


def test_urllib_reads_it_too(watched: Queue, endpoint: Endpoint) -> None:
    del watched
    with urllib.request.urlopen(endpoint.url + "/metrics", timeout=20) as response:
        assert b"# HELP retryspool_delivered_total Messages handled with success" in response.read()


def test_states_are_labelled_as_elsewhere(watched: Queue, endpoint: Endpoint) -> None:
    del watched
    states = {sample.labels["state"] for sample in scrape(endpoint)["retryspool_messages"].samples}

    assert {state.label for state in State} == states


def test_a_server_that_hangs_and_goes_on_is_seen_to(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    with (
        redis.Redis.from_url(server.url) as client,
        Queue.open(meta=server.url, data="memory:hangs") as queue,
        Endpoint(queue, "127.0.0.1", 0) as endpoint,
    ):
        queue.add_handler(lambda _message, _payload: None)
        queue.enqueue(b"", not_before=3600)
        queue.start()
        records: Any = endpoint._server.stores.records
        records._max_age_s = 0  # it's looked at each time, not every five seconds
        assert 200 == get(endpoint, "/readyz")[0]
        pid = client.info("server")["process_id"]  # type: ignore[index]

        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: get(endpoint, "/readyz")[0] == 503)
            found = values(endpoint)
            health = json.loads(get(endpoint, "/readyz")[1])
        finally:
            os.kill(pid, signal.SIGCONT)

        assert "DeadlineExceededError" in health["records"]
        assert (1, 0) == (found["retryspool_messages", "incoming"], found["retryspool_store_up", "records"])
        assert found["retryspool_backlog_age_seconds",] > 1
        wait_for(lambda: get(endpoint, "/readyz")[0] == 200)
        assert 1 == values(endpoint)["retryspool_store_up", "records"]
