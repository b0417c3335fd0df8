"""/metrics, /livez and /readyz over a real socket."""

import asyncio
import json
import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from penstock.metrics import counter, gauge, histogram, process_registry
from penstock.telemetry import Heartbeat, TelemetryError, TelemetryServer
from penstock_schemas import metric_defs


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_are_those_of_the_registry() -> None:
    registry = process_registry("worker")
    counter(metric_defs.WORKER_BATCHES, registry).inc(3)
    gauge(metric_defs.WORKER_LAG, registry).labels(topic="t", partition="0").set(7)
    histogram(metric_defs.WORKER_WRITE_SECONDS, registry).observe(0.2)
    with TelemetryServer(registry=registry) as server:
        status, text = _get(f"{server.url}/metrics")
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert status == 200
    assert samples["penstock_worker_batches_total"] == 3
    assert samples["penstock_worker_lag"] == 7
    assert samples["penstock_worker_write_seconds_count"] == 1
    assert samples["penstock_build_info"] == 1
    assert "process_resident_memory_bytes" in samples


def test_readiness_fails_apart_from_liveness_and_says_why() -> None:
    faults: dict[str, str | None] = {"database": "PostgreSQL is away"}
    with TelemetryServer(
        registry=CollectorRegistry(),
        live={"loop": lambda: None},
        ready={"database": lambda: faults["database"]},
    ) as server:
        assert _get(f"{server.url}/livez")[0] == 200
        status, body = _get(f"{server.url}/readyz")
        assert status == 503
        assert json.loads(body) == {"status": "failing", "failing": {"database": "PostgreSQL is away"}}
        faults["database"] = None
        assert _get(f"{server.url}/readyz")[0] == 200


def test_a_process_that_is_not_alive_is_not_ready() -> None:
    with TelemetryServer(registry=CollectorRegistry(), live={"loop": lambda: "stuck"}) as server:
        assert _get(f"{server.url}/livez")[0] == 503
        assert _get(f"{server.url}/readyz")[0] == 503


def test_a_check_that_raises_fails_without_ending_the_server() -> None:
    def broken() -> str | None:
        raise ZeroDivisionError

    with TelemetryServer(registry=CollectorRegistry(), ready={"broken": broken}) as server:
        assert "ZeroDivisionError" in _get(f"{server.url}/readyz")[1]
        assert _get(f"{server.url}/livez")[0] == 200


def test_an_unknown_path_says_which_exist() -> None:
    with TelemetryServer(registry=CollectorRegistry()) as server:
        status, body = _get(f"{server.url}/")
    assert status == 404
    assert "/readyz" in body


def test_a_taken_port_is_said_in_words() -> None:
    with (
        TelemetryServer(registry=CollectorRegistry()) as first,
        pytest.raises(TelemetryError, match=str(first.port)),
    ):
        TelemetryServer(registry=CollectorRegistry(), port=first.port)


def test_close_frees_the_port_and_may_be_repeated() -> None:
    server = TelemetryServer(registry=CollectorRegistry()).start()
    server.close()
    server.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


def test_a_server_that_never_started_can_be_closed() -> None:
    TelemetryServer(registry=CollectorRegistry()).close()


def test_a_loop_that_stops_turning_is_noticed() -> None:
    now = [0.0]
    heart = Heartbeat(limit=30, clock=lambda: now[0])
    assert heart.check() is None
    now[0] = 31
    assert "31 s" in str(heart.check())
    heart.beat()
    assert heart.check() is None


async def test_a_turning_loop_beats_by_itself() -> None:
    now = [0.0]
    heart = Heartbeat(limit=0.01, clock=lambda: now[0])
    now[0] = 100
    async with heart.beating():
        async with asyncio.timeout(5):
            while heart.check() is not None:  # noqa: ASYNC110 - the loop itself is what is watched
                await asyncio.sleep(0)
    now[0] = 200
    assert heart.check() is not None
