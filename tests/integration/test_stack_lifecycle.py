"""`ensure` and `stop` on real servers: twice, side by side, after a crash, never on another's process."""

import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from fixtures.waiting import wait_for
from penstock import stack
from penstock.stack import Step
from penstock.stack._process import ProcessRecord, is_running, spawn, terminate
from penstock.stack._sql import execute, fetch_value
from penstock.stack._state import load, save, stack_folder

POSTGRESQL = ("postgresql",)
NO_ENVIRONMENT: dict[str, str] = {}


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A folder with stacks of its own; as root it is closed to the account that PostgreSQL runs as."""
    root = tmp_path / "checkout"
    (root / ".penstock").mkdir(parents=True)
    yield root
    for path in (root / ".penstock").glob("*/stack.json"):
        stack.stop(path.parent.name, wipe=True, root=root)


def up(root: Path, name: str = "local", **options: object) -> stack.StackAddresses:
    return stack.ensure(name, want=POSTGRESQL, root=root, durable=False, environ=NO_ENVIRONMENT, **options)


def test_a_second_up_finds_what_the_first_started(checkout: Path) -> None:
    steps: list[Step] = []
    first = up(checkout)
    began = time.monotonic()
    second = up(checkout, progress=steps.append)
    assert second == first
    assert time.monotonic() - began < 5
    assert [step.state for step in steps] == ["ready"]


def test_data_ports_and_logins_outlive_down_and_end_with_wipe(checkout: Path) -> None:
    first = up(checkout)
    execute(first.database_url, ["CREATE TABLE kept AS SELECT 7 AS number"])
    assert stack.stop(root=checkout)
    assert stack.addresses(root=checkout) is None
    again = up(checkout)
    assert fetch_value(again.database_url, "SELECT number FROM kept") == 7
    assert again == first
    home = load(stack_folder("local", checkout)).postgresql.home
    assert stack.stop(wipe=True, root=checkout)
    assert not home.exists()
    assert not stack_folder("local", checkout).exists()
    assert not stack.stop(root=checkout)


def test_stacks_side_by_side_do_not_meet(checkout: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / ".penstock").mkdir(parents=True)
    try:
        here, there, named = up(checkout), up(other), up(checkout, "second")
        assert len({a.database_url.rpartition("@")[2] for a in (here, there, named)}) == 3
        assert stack.stop(wipe=True, root=other)
        for addresses in (here, named):
            assert fetch_value(addresses.database_url, "SELECT 1") == 1
    finally:
        stack.stop(wipe=True, root=other)


def test_two_ups_at_once_start_one_server(checkout: Path) -> None:
    found: list[stack.StackAddresses] = []
    threads = [threading.Thread(target=lambda: found.append(up(checkout))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert found[0] == found[1]


def test_a_server_that_died_is_started_again_with_its_data(checkout: Path) -> None:
    first = up(checkout)
    execute(first.database_url, ["CREATE TABLE kept AS SELECT 7 AS number"])
    process = load(stack_folder("local", checkout)).postgresql.process
    terminate(process, signals=(), grace_s=0)
    assert not stack.status(root=checkout, environ=NO_ENVIRONMENT).ready
    # the children of a killed postmaster let go of its memory a moment later
    again = wait_for(lambda: _up_or_none(checkout), 30, "a restart after SIGKILL")
    assert fetch_value(again.database_url, "SELECT number FROM kept") == 7


def test_a_start_that_is_interrupted_leaves_nothing_that_down_does_not_know(checkout: Path) -> None:
    def interrupted(step: Step) -> None:
        if step.text == "waiting for an answer":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        up(checkout, progress=interrupted)
    process = load(stack_folder("local", checkout)).postgresql.process
    assert is_running(process)
    assert stack.stop(root=checkout)
    assert not is_running(process)


def test_down_never_signals_a_process_that_it_did_not_start(checkout: Path, tmp_path: Path) -> None:
    up(checkout)
    folder = stack_folder("local", checkout)
    state = load(folder)
    bystander = spawn(
        [sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / "log", cwd=tmp_path
    )
    recycled = ProcessRecord(
        pid=bystander.pid, started="an earlier process of that number", log=tmp_path / "log"
    )
    real = state.postgresql.process
    save(
        folder,
        state.model_copy(update={"postgresql": state.postgresql.model_copy(update={"process": recycled})}),
    )
    try:
        assert not stack.stop(root=checkout)
        assert is_running(bystander)
    finally:
        terminate(bystander, signals=(), grace_s=0)
        terminate(real, signals=(), grace_s=0)


def test_a_kept_port_that_somebody_took_is_replaced(checkout: Path) -> None:
    import socket

    first = up(checkout)
    port = load(stack_folder("local", checkout)).postgresql.port
    stack.stop(root=checkout)
    said: list[str] = []
    with socket.create_server(("127.0.0.1", port)):
        second = up(checkout, progress=lambda step: said.append(step.text))
    assert second.database_url.rpartition("@")[2] != first.database_url.rpartition("@")[2]
    assert any(f"port {port} is taken" in text for text in said)
    assert fetch_value(second.database_url, "SELECT 1") == 1


def test_secrets_are_for_their_owner_only(checkout: Path) -> None:
    addresses = up(checkout)
    folder = stack_folder("local", checkout)
    assert (folder / "stack.json").stat().st_mode & 0o777 == 0o600
    assert "postgresql://" not in repr(addresses)
    password = load(folder).postgresql.password
    arguments = Path(f"/proc/{load(folder).postgresql.process.pid}/cmdline").read_text()
    assert "-D" in arguments
    assert password not in arguments
    assert password not in (folder / "logs" / "postgresql.log").read_text()


async def test_the_database_is_closed_to_those_without_a_password(checkout: Path) -> None:
    host = up(checkout).database_url.rpartition("@")[2]
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://postgres:wrong@{host}", timeout=10)


def test_the_registry_runs_in_the_background_until_down(checkout: Path) -> None:
    addresses = up(checkout, apps=("registry",))
    with urllib.request.urlopen(f"{addresses.schema_registry_url}/subjects", timeout=10) as answer:
        assert answer.read().strip() == b"[]"
    status = stack.status(root=checkout, environ=NO_ENVIRONMENT)
    assert status.ready
    assert {server.server for server in status.servers} == {"postgresql", "registry"}
    assert up(checkout, apps=("registry",)).schema_registry_url == addresses.schema_registry_url
    process = load(stack_folder("local", checkout)).apps["registry"].process
    assert stack.stop(root=checkout)
    assert not is_running(process)


def _up_or_none(root: Path) -> stack.StackAddresses | None:
    try:
        return up(root)
    except stack.ServerStartError:
        return None
