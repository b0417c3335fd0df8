"""The retention command and worker on a real database, in a process and by its own login."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from fixtures.databases import Database
from fixtures.processes import PenstockProcess, RunPenstock, StartPenstock
from fixtures.waiting import wait_for, wait_for_async
from penstock.cli.exit_codes import ExitCode
from penstock.errors import ServerUnavailableError
from penstock.retention import RetentionOptions, RetentionRefused, RetentionWorker, plan_now, run_now
from penstock_store.retention import RetentionPolicy


def _environ(database: Database) -> dict[str, str]:
    return {"PENSTOCK_RETENTION_DATABASE_URL": database.retention_url, "PENSTOCK_TIMEOUT_SECONDS": "10"}


async def _expire(database: Database) -> str:
    """Make partitions of one second, let one close, and return its name."""
    owner = await asyncpg.connect(database.url)
    try:
        await owner.execute("UPDATE penstock.settings SET partition_interval = '1 second'")
        await owner.execute("SELECT penstock.ensure_partitions(1)")
        await owner.execute("SELECT penstock.roll()")
        name: str = await owner.fetchval("SELECT name FROM penstock.partitions WHERE state = 'current'")

        async def rolled() -> bool:
            await owner.execute("SELECT penstock.ensure_partitions(1)")
            return await owner.fetchval("SELECT penstock.roll()") == "rolled"

        await wait_for_async(rolled, 15, "the partition's second to pass")
    finally:
        await owner.close()
    return name


def test_a_run_makes_partitions_ahead_and_a_dry_run_changes_nothing(
    database: Database, run_penstock: RunPenstock
) -> None:
    environ = _environ(database)
    before = json.loads(run_penstock(environ, "retention", "plan", "--json").stdout)
    dry = run_penstock(environ, "retention", "run", "--dry-run", "--json", "--ahead", "5")
    assert json.loads(dry.stdout)["make"] == 5
    assert (
        json.loads(run_penstock(environ, "retention", "plan", "--json").stdout)["partitions"]
        == before["partitions"]
    )
    done = run_penstock(environ, "retention", "run", "--json", "--ahead", "5")
    assert done.returncode == ExitCode.OK, done.stderr
    assert len(json.loads(done.stdout)["made"]) == 6 - len(before["partitions"])
    after = json.loads(run_penstock(environ, "retention", "plan", "--json", "--ahead", "5").stdout)
    assert after["make"] == 0
    assert [p["state"] for p in after["partitions"]].count("future") == 5
    again = run_penstock(environ, "retention", "run", "--ahead", "5")
    assert "Made 0, finished 0, dropped 0 partitions" in again.stdout


def test_the_plan_is_a_table_that_gives_reasons(database: Database, run_penstock: RunPenstock) -> None:
    environ = _environ(database)
    run_penstock(environ, "retention", "run")
    for columns in ("80", "120"):
        shown = run_penstock({**environ, "COLUMNS": columns}, "retention", "plan").stdout
        assert "being written to" in shown, f"the reason is broken at {columns} columns"
        assert "Nothing was changed." in shown


async def test_an_expired_partition_is_dropped_by_policy_only(database: Database) -> None:
    name = await _expire(database)
    endless = RetentionOptions(dsn=database.retention_url)
    decided, report = await run_now(endless)
    assert not decided.drop
    assert name in report.closed
    held = RetentionPolicy(retain_days=0.000001)
    assert not (await plan_now(RetentionOptions(dsn=database.retention_url, policy=held))).drop
    policy = RetentionPolicy(retain_days=0.000001, dedupe_window=timedelta(0))
    options = RetentionOptions(dsn=database.retention_url, policy=policy)

    async def expired() -> bool:
        return name in [decision.partition for decision in (await plan_now(options)).drop]

    await wait_for_async(expired, 20, "the partition's last moment to be older than the policy keeps")
    _, report = await run_now(options)
    assert name in report.dropped
    assert not report.failed


async def test_the_stores_clock_decides_and_not_the_hosts(database: Database) -> None:
    """Of a host that is ten days ahead a run would drop ten days of events that the policy keeps."""
    owner = await asyncpg.connect(database.admin_url)
    await owner.execute(
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz"
        " RETURN pg_catalog.clock_timestamp() - interval '10 days';"
        f' ALTER DATABASE "{database.name}" SET search_path = public, pg_catalog'
    )
    await owner.close()
    options = RetentionOptions(dsn=database.retention_url)
    for decided in (await plan_now(options), (await run_now(options))[0]):
        assert abs(datetime.now(UTC) - timedelta(days=10) - decided.at) < timedelta(days=1)


async def test_the_worker_keeps_partitions_ahead_counts_and_stops(database: Database) -> None:
    name = await _expire(database)
    registry = CollectorRegistry()
    policy = RetentionPolicy(retain_days=0.000001, dedupe_window=timedelta(0))
    worker = RetentionWorker(
        RetentionOptions(dsn=database.retention_url, policy=policy, interval=1), registry
    )
    assert worker.ready() is not None
    running = asyncio.create_task(worker.run())
    dropped = "penstock_retention_dropped_partitions_total"
    await wait_for_async(
        lambda: (registry.get_sample_value(dropped) or 0) >= 1, 20, "the partition to expire"
    )
    await wait_for_async(lambda: worker.ready() is None, 20, "a run without a fault")
    assert registry.get_sample_value("penstock_retention_partitions", {"state": "future"}) == 3
    assert registry.get_sample_value("penstock_retention_ahead_seconds") > 1  # type: ignore[operator]
    assert registry.get_sample_value("penstock_retention_last_run_timestamp_seconds") > 1e9  # type: ignore[operator]
    worker.stop()
    await asyncio.wait_for(running, 20)
    owner = await asyncpg.connect(database.url)
    state = await owner.fetchval("SELECT state FROM penstock.partitions WHERE name = $1", name)
    await owner.close()
    assert state == "dropped"


async def test_the_worker_outlives_a_database_that_is_away() -> None:
    registry = CollectorRegistry()
    options = RetentionOptions(dsn="postgresql://u:p@127.0.0.1:1/d", timeout=1, interval=1)
    worker = RetentionWorker(options, registry)
    running = asyncio.create_task(worker.run())
    failures = "penstock_retention_failures_total"
    await wait_for_async(lambda: (registry.get_sample_value(failures) or 0) >= 2, 20, "two failed runs")
    assert "does not answer" in str(worker.ready())
    assert ":p@" not in str(worker.ready())
    worker.stop()
    await asyncio.wait_for(running, 20)


async def test_what_no_further_run_would_cure_ends_the_worker(
    database: Database, empty_database: Database
) -> None:
    for dsn in (database.registry_url, empty_database.retention_url):
        worker = RetentionWorker(RetentionOptions(dsn=dsn), CollectorRegistry())
        with pytest.raises(RetentionRefused, match="penstock_retention"):
            await asyncio.wait_for(worker.run(), 30)


async def test_a_single_run_says_that_the_server_is_away() -> None:
    with pytest.raises(ServerUnavailableError, match="does not answer"):
        await plan_now(RetentionOptions(dsn="postgresql://u:p@127.0.0.1:1/d", timeout=1))


@pytest.mark.parametrize("wrong", [{"interval": 0.5}, {"interval": 1e9}, {"timeout": 0}])
def test_options_are_validated_when_made(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetentionOptions(dsn="postgresql://h/d", **wrong)


def test_the_process_serves_its_probes_and_ends_cleanly_at_sigterm(
    database: Database, start_penstock: StartPenstock
) -> None:
    process: PenstockProcess = start_penstock(
        _environ(database), "retention", "worker", "--metrics-port", "0"
    )
    wait_for(process.ready, 40, "the retention worker to be ready")
    metrics = process.get("/metrics")[1]
    assert 'component="retention"' in metrics
    assert 'penstock_retention_partitions{state="future"} 3.0' in metrics
    assert process.get("/livez")[0] == 200
    assert process.terminate() == ExitCode.OK
    assert "Traceback" not in process.output()


def test_a_login_without_the_role_is_refused_in_words(database: Database, run_penstock: RunPenstock) -> None:
    """The registry's may not even look; the reader's sees the plan and can carry out no step of it."""
    for dsn, code in ((database.registry_url, ExitCode.REFUSED), (database.reader_url, ExitCode.FAILED)):
        done = run_penstock({"PENSTOCK_RETENTION_DATABASE_URL": dsn}, "retention", "run")
        assert done.returncode == code
        assert "permission denied" in done.stderr
        assert "Traceback" not in done.stderr
