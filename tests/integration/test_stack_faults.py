"""What is missing or broken is said: which server, why, and what to do next."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from penstock import stack
from penstock.stack import (
    MissingRequirementError,
    ServerStartError,
    StackAddresses,
    StackError,
    StackTimeoutError,
    _native,
    _process,
    _readiness,
    _requirements,
)
from penstock.stack._docker import find_compose
from penstock.stack._lock import exclusive
from penstock.stack._ports import free_port
from penstock.stack._postgresql import PostgresServer, data_home


def script(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No program on the PATH, apt-get neither; returns the only folder on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(_requirements, "_POSTGRESQL_FOLDERS", ())
    return folder


def ignore(text: str) -> None:
    """No progress display."""


@pytest.mark.parametrize(
    ("require", "named", "variable"),
    [
        (_requirements.require_java, "default-jre-headless", "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS"),
        (_requirements.require_maven, "maven", "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS"),
        (_requirements.require_postgresql, "initdb", "PENSTOCK_DATABASE_URL"),
    ],
)
def test_a_missing_program_is_named_with_three_ways_out(
    bare_machine, require, named: str, variable: str
) -> None:
    with pytest.raises(MissingRequirementError) as caught:
        require(ignore)
    assert named in str(caught.value)
    assert "apt-get install" in str(caught.value)
    assert "Docker" in str(caught.value)
    assert variable in str(caught.value)


def test_a_java_that_is_too_old_is_refused_by_name(bare_machine: Path) -> None:
    java = script(bare_machine, "java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    with pytest.raises(MissingRequirementError, match=f"{java} is version 11"):
        _requirements.require_java(ignore)


def test_java_home_comes_before_the_path(
    bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(bare_machine, "java", "echo 'openjdk version \"11.0.2\"' >&2")
    (tmp_path / "jdk").mkdir()
    newer = script(tmp_path / "jdk" / "bin", "java", "echo 'openjdk version \"21.0.1\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert _requirements.require_java(ignore) == newer


def test_root_with_apt_installs_what_is_missing(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    called = bare_machine / "called"
    script(bare_machine, "apt-get", f'echo "$*" >> {called}')
    with pytest.raises(MissingRequirementError):
        _requirements.require_maven(ignore)
    update, install = called.read_text().splitlines()
    assert update == "update -q"
    assert install.startswith("install -y")
    assert install.endswith(" maven")


def test_a_server_that_dies_at_start_shows_the_end_of_its_log(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = PostgresServer(
        home=data_home(tmp_path / "postgresql", f"test-{os.getpid()}-{free_port()}"),
        log=tmp_path / "postgresql.log",
        port=free_port(),
        password="p",
        durable=False,
        settings={"shared_buffers": "a lot"},
    )
    request.addfinalizer(server.wipe)
    with pytest.raises(ServerStartError, match='invalid value for parameter "shared_buffers"'):
        server.start(ignore)


def test_a_server_that_dies_before_anybody_looks_dies_at_start_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_process, "_start_mark", lambda _pid: None)
    with pytest.raises(ServerStartError, match="false ended at once"):
        _process.spawn(["/bin/false"], log=tmp_path / "log", cwd=tmp_path)


def test_a_full_disk_is_said_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_native.shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * 2**20))
    with pytest.raises(StackError, match="Only 3 MB are free"):
        stack.ensure("full", want=("postgresql",), root=tmp_path, environ={})


def test_a_database_whose_password_is_lost_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_native, "data_home", lambda wanted, key: wanted)
    data = tmp_path / ".penstock" / "lost" / "postgresql" / "data"
    data.mkdir(parents=True)
    with pytest.raises(StackError, match="password is lost"):
        stack.ensure("lost", want=("postgresql",), root=tmp_path, environ={})
    assert data.exists()


@pytest.mark.parametrize("want", ["kafka", "postgresql"])
def test_an_address_from_the_environment_that_is_silent_is_an_error(
    tmp_path: Path, want, monkeypatch
) -> None:
    monkeypatch.setattr("penstock.stack._environment._ANSWER_S", 0.5)
    nobody = f"127.0.0.1:{free_port()}"
    environ = {
        "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": nobody,
        "PENSTOCK_DATABASE_URL": f"postgresql://me:secret@{nobody}/penstock",
    }
    with pytest.raises(StackError, match=f"{nobody}.*answers there. Correct it, or unset it") as caught:
        stack.ensure("given", want=(want,), root=tmp_path, environ=environ)
    assert "secret" not in str(caught.value)


def test_addresses_from_the_environment_are_used_and_nothing_is_started(
    stack: StackAddresses, tmp_path: Path
) -> None:
    from penstock import stack as api

    environ = {"PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": stack.kafka, "PENSTOCK_DATABASE_URL": stack.database_url}
    found = api.ensure("given", root=tmp_path, environ=environ)
    assert found.modes == {"kafka": "environment", "postgresql": "environment"}
    assert (found.kafka, found.worker_database_url) == (stack.kafka, stack.database_url)
    assert api.addresses("given", root=tmp_path) is None
    assert not api.stop("given", root=tmp_path)
    assert api.status("given", root=tmp_path, environ=environ).ready


@pytest.mark.parametrize("body", ["exit 1", "sleep 30"])
def test_a_docker_binary_without_a_daemon_proves_nothing(tmp_path: Path, monkeypatch, body: str) -> None:
    monkeypatch.setattr("penstock.stack._docker._DAEMON_S", 0.5)
    monkeypatch.setenv("PATH", f"{script(tmp_path / 'bin', 'docker', body).parent}:{os.environ['PATH']}")
    (tmp_path / "docker-compose.yml").touch()
    assert find_compose(tmp_path / ".penstock" / "local") is None


def test_docker_that_answers_is_asked_before_native_and_its_failure_is_shown(
    tmp_path: Path, monkeypatch
) -> None:
    docker = script(
        tmp_path / "bin",
        "docker",
        'case "$*" in *" up "*) echo "manifest unknown" >&2; exit 1;; *) echo 28.0;; esac',
    )
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    (tmp_path / "docker-compose.yml").touch()
    with pytest.raises(StackError, match=r"up --detach --wait postgresql failed:\n.*manifest unknown"):
        stack.ensure("local", want=("postgresql",), root=tmp_path, environ={})


def test_a_stack_that_another_process_is_starting_is_waited_for_with_a_deadline(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "lock", timeout_s=1, what="this"),
        pytest.raises(StackTimeoutError, match="busy with that for 0 s"),
        exclusive(tmp_path / "lock", timeout_s=0.1, what="that"),
    ):
        pass


def test_listening_is_not_answering() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert not _readiness.kafka_answers(f"127.0.0.1:{port}", timeout_s=0.5)
        assert not _readiness.postgresql_answers(f"postgresql://a:b@127.0.0.1:{port}/c", timeout_s=0.5)


@pytest.mark.parametrize("name", ["", "../up", "UPPER", "a b", "-x"])
def test_a_name_that_would_surprise_as_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StackError, match="lower-case letters"):
        stack.ensure(name, root=tmp_path, environ={})


def test_a_process_that_the_stack_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"has no webserver; it has kafka, postgresql, registry"):
        stack.ensure(want=("webserver",), root=tmp_path, environ={})


def test_preparing_fetches_without_starting_and_says_what_is_missing(
    bare_machine: Path, tmp_path: Path
) -> None:
    def prepare(**given: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(bare_machine), "HOME": str(tmp_path), **given}
        command = [sys.executable, "-m", "penstock.stack"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    addresses = {"PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": "x:9092", "PENSTOCK_DATABASE_URL": "postgresql://x/y"}
    assert prepare(**addresses).returncode == 0
    missing = prepare(PENSTOCK_DATABASE_URL="postgresql://x/y")
    assert missing.returncode == 1
    assert "Java 17 or newer was not found" in missing.stderr
