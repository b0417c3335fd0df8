"""`penstock worker` as a process: what it serves, how it ends, what it says when a server refuses."""

import pytest

from fixtures.databases import Database
from fixtures.processes import RunPenstock, StartPenstock
from fixtures.topics import TopicFactory
from fixtures.waiting import wait_for
from penstock.cli.exit_codes import ExitCode
from penstock.errors import SettingsError
from penstock.settings import Settings
from penstock.worker import WorkerChoices, worker_settings

SECRET = "s3cr3t-passphrase"


def _environ(kafka: str, database: Database, topic: str, **more: str) -> dict[str, str]:
    return {
        "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "PENSTOCK_WORKER_DATABASE_URL": database.writer_url,
        "PENSTOCK_SCHEMA_REGISTRY_URL": "http://127.0.0.1:1",
        "PENSTOCK_TOPICS": topic,
        "PENSTOCK_GROUP_ID": f"group-{topic}",
        **more,
    }


def test_it_serves_its_probes_and_metrics_and_ends_cleanly_at_sigterm(
    kafka: str, database: Database, topic: TopicFactory, start_penstock: StartPenstock
) -> None:
    name = topic(2)
    worker = start_penstock(_environ(kafka, database, name), "worker", "--metrics-port", "0")
    wait_for(worker.ready, 60, "the worker to be ready")
    assigned = 'penstock_worker_partitions{state="assigned"} 2.0'
    wait_for(lambda: assigned in worker.get("/metrics")[1], 30, "both partitions")
    metrics = worker.get("/metrics")[1]
    assert 'component="worker"' in metrics
    assert "penstock_worker_database_up 1.0" in metrics
    assert worker.get("/livez")[0] == 200
    assert worker.terminate() == ExitCode.OK
    assert "Traceback" not in worker.output()
    assert "worker_stopped" in worker.output()


def test_a_missing_migration_is_said_and_ends_it(
    kafka: str, empty_database: Database, topic: TopicFactory, run_penstock: RunPenstock
) -> None:
    done = run_penstock(_environ(kafka, empty_database, topic(1)), "worker")
    assert done.returncode == ExitCode.REFUSED, done.stderr
    assert "Error: " in done.stderr
    assert "migrat" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_login_is_said_without_its_password(
    kafka: str, database: Database, topic: TopicFactory, run_penstock: RunPenstock
) -> None:
    head, _, tail = database.writer_url.rpartition("@")
    url = f"{head.rpartition(':')[0]}:{SECRET}@{tail}"
    environ = _environ(kafka, database, topic(1), PENSTOCK_WORKER_DATABASE_URL=url)
    done = run_penstock(environ, "worker")
    assert done.returncode == ExitCode.REFUSED, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_topic_that_may_not_be_made_ends_it(
    kafka: str, database: Database, run_penstock: RunPenstock
) -> None:
    environ = _environ(kafka, database, "never-made")
    done = run_penstock(environ, "worker", "--no-create-topics")
    assert done.returncode == ExitCode.REFUSED
    assert "never-made" in done.stderr


def test_a_server_that_is_away_is_waited_for_until_sigterm(
    database: Database, start_penstock: StartPenstock
) -> None:
    environ = _environ("127.0.0.1:1", database, "t")
    worker = start_penstock(environ, "worker", "--metrics-port", "0")
    wait_for(lambda: worker.get("/livez")[0] == 200, 60, "the worker to be alive")
    assert worker.get("/readyz")[0] == 503
    assert worker.terminate(60) == ExitCode.OK


def test_a_taken_metrics_port_is_said(
    kafka: str,
    database: Database,
    topic: TopicFactory,
    start_penstock: StartPenstock,
    run_penstock: RunPenstock,
) -> None:
    from prometheus_client import CollectorRegistry

    from penstock.telemetry import TelemetryServer

    with TelemetryServer(registry=CollectorRegistry()) as other:
        done = run_penstock(_environ(kafka, database, topic(1)), "worker", "--metrics-port", str(other.port))
    assert done.returncode == ExitCode.FAILED
    assert f":{other.port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_options_reach_the_worker() -> None:
    choices = WorkerChoices(batch_size=7, linger=2.0, accept_loss=("t:1",), create_topics=False)
    worker = worker_settings(Settings(topics=("t",), kafka_config={"sasl.password": SECRET}), choices)
    assert worker.batch.records == 7
    assert worker.batch.linger == 2.0
    assert worker.batch.age >= worker.batch.linger
    assert worker.accept_loss == {"t:1"}
    assert not worker.create_topics
    assert worker.kafka["sasl.password"] == SECRET
    assert SECRET not in repr(worker)


def test_the_documented_defaults_are_the_consumer_s(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.cli.app import run
    from penstock_consumer import BatchLimits, WorkerSettings

    plain = WorkerSettings(bootstrap_servers="localhost:9092", topics=("events",), group_id="penstock")
    assert worker_settings(Settings(), WorkerChoices()) == plain
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["worker", "--help"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert f"default: {BatchLimits().records:,}" in shown
    assert f"default: {BatchLimits().linger}" in shown


@pytest.mark.parametrize(
    "choices", [WorkerChoices(accept_loss=("t",)), WorkerChoices(batch_size=0), WorkerChoices(linger=-1)]
)
def test_what_the_consumer_refuses_is_a_settings_error(choices: WorkerChoices) -> None:
    with pytest.raises(SettingsError):
        worker_settings(Settings(), choices)
