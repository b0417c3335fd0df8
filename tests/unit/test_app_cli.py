"""The command line's frame: help, exit codes, messages, redaction. Servers play no part here."""

import errno
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import typer
from confluent_kafka import KafkaError, KafkaException
from typer.main import get_command

from penstock.cli import main
from penstock.cli.app import build, run
from penstock.cli.exit_codes import ExitCode
from penstock.cli.failures import CODES, exit_code_of, report
from penstock.doctor.kafka import examine_kafka
from penstock.errors import InputError, PenstockError, ServerUnavailableError, SettingsError
from penstock.kafka_view import KafkaView
from penstock.settings import Settings
from penstock.wording import counted
from penstock.worker import say_defaults

ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t-passphrase"
EXPECTED = {
    "demo",
    "up",
    "down",
    "status",
    "doctor",
    "emit",
    "load",
    "events",
    "worker",
    "dlq",
    "replay",
    "reconcile",
    "projection",
    "store",
    "config",
    "retention",
    "migrate",
    "registry",
}


def _commands(app: typer.Typer, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for command in app.registered_commands:
        assert command.callback is not None
        yield (*prefix, command.name or command.callback.__name__)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        name = group.name or group.typer_instance.info.name
        assert isinstance(name, str)
        yield (*prefix, name)
        yield from _commands(group.typer_instance, (*prefix, name))


ALL_COMMANDS = sorted(_commands(build()))


def penstock(*arguments: str, cwd: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """A process as a user starts it, without the settings of the one that runs the tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return subprocess.run(
        [sys.executable, "-m", "penstock", *arguments],
        cwd=cwd,
        env={**clean, "COLUMNS": "80", "NO_COLOR": "1", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_command_of_the_issue_is_there() -> None:
    assert {command[0] for command in ALL_COMMANDS} == EXPECTED
    subcommands = {command for command in ALL_COMMANDS if len(command) > 1}
    assert subcommands >= {("retention", "plan"), ("retention", "run"), ("retention", "worker")}
    assert subcommands >= {("migrate", "up"), ("migrate", "down"), ("migrate", "check")}


@pytest.mark.parametrize("command", ALL_COMMANDS, ids=" ".join)
def test_help_says_what_a_command_does_and_what_each_option_means(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run([*command, "--help"]) == ExitCode.OK
    text = capsys.readouterr().out
    usage, _, rest = text.strip().partition("\n")
    assert " ".join(("Usage: penstock", *command)) in usage
    prose = rest.strip().splitlines()[0].strip()
    assert len(prose) > 20
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("command", ALL_COMMANDS, ids=" ".join)
def test_every_option_and_argument_is_explained(command: tuple[str, ...]) -> None:
    found = get_command(build())
    for name in command:
        found = found.commands[name]  # type: ignore[attr-defined]
    unexplained = [parameter.name for parameter in found.params if not getattr(parameter, "help", None)]
    assert unexplained == []


def test_version_is_printed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == ExitCode.OK
    assert re.fullmatch(r"penstock \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == ExitCode.USAGE
    assert "Usage: penstock" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["worker", "--batch-size", "0"],
        ["doctor", "--frobnicate"],
        ["worker", "--metrics-port", "70000"],
        ["up", "--with", "nonsense"],
    ],
)
def test_a_wrong_command_line_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "Error" in said
    assert "Traceback" not in said


def test_the_exit_codes_are_documented_in_help_and_in_the_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    document = (ROOT / "docs" / "exit-codes.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", document, re.MULTILINE))
    assert rows == {str(code.value): code.meaning for code in ExitCode}
    for code in ExitCode:
        assert f"{code.value} {code.meaning}" in shown


def test_the_documented_names_are_those_of_the_enumeration() -> None:
    assert [code.value for code in ExitCode] == sorted(code.value for code in ExitCode)
    assert all(code.meaning.endswith(".") for code in ExitCode)


@pytest.mark.parametrize("name", CODES)
def test_every_class_with_a_code_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), attribute), BaseException)


@pytest.mark.parametrize(
    ("module", "root"),
    [
        ("penstock_schemas.errors", "SchemasError"),
        ("penstock_producer.errors", "ProducerError"),
        ("penstock_store.errors", "StoreError"),
        ("penstock_consumer.errors", "ConsumerError"),
        ("penstock.errors", "PenstockError"),
    ],
)
def test_no_error_raised_on_purpose_counts_as_a_fault_of_penstock(module: str, root: str) -> None:
    """Also those that are below a root and have no entry of their own."""
    kinds = [getattr(importlib.import_module(module), root)]
    for kind in kinds:
        kinds += [below for below in kind.__subclasses__() if below not in kinds]
        error = kind.__new__(kind)
        assert exit_code_of(error) is not ExitCode.INTERNAL, kind


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), ExitCode.CONFIG),
        (ServerUnavailableError("x"), ExitCode.UNAVAILABLE),
        (InputError("x"), ExitCode.DATA),
        (ConnectionRefusedError(111, "refused"), ExitCode.UNAVAILABLE),
        (TimeoutError(), ExitCode.UNAVAILABLE),
        (FileNotFoundError(2, "No such file"), ExitCode.DATA),
        (OSError(errno.ENOSPC, "No space left on device"), ExitCode.DATA),
        (OSError(errno.EROFS, "Read-only file system", "x.prom"), ExitCode.DATA),
        (KafkaException(KafkaError(KafkaError._INVALID_ARG, "No such property")), ExitCode.CONFIG),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ZeroDivisionError(), ExitCode.INTERNAL),
    ],
)
def test_each_kind_of_fault_has_its_code(
    error: BaseException, code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error) is code
    assert ("report it" in capsys.readouterr().err) is (code is ExitCode.INTERNAL)


def test_an_error_whose_cause_is_a_server_away_is_unavailable() -> None:
    from penstock_store.errors import MigrationError

    error = MigrationError("no connection")
    assert exit_code_of(error) is ExitCode.REFUSED
    error.__cause__ = ConnectionRefusedError()
    assert exit_code_of(error) is ExitCode.UNAVAILABLE


def test_a_file_behind_a_store_s_error_is_no_server_that_is_away() -> None:
    from penstock_store.read_errors import StoreUnavailable

    error = StoreUnavailable("The directory cannot be used")
    error.__cause__ = FileNotFoundError(errno.ENOENT, "No such file or directory", "/proc/nope")
    assert exit_code_of(error) is ExitCode.DATA
    error.__cause__ = FileNotFoundError(errno.ENOENT, "No such file or directory")  # of PostgreSQL's socket
    assert exit_code_of(error) is ExitCode.UNAVAILABLE


@pytest.mark.parametrize("arguments", [["--help"], ["config", "show"]])
def test_an_output_that_takes_nothing_is_said_in_one_sentence(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "penstock", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == ExitCode.DATA
    assert done.stderr.startswith("Error: The output cannot be read or written: No space left on device.")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_output_takes_nothing_and_hinders_nobody(closed: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m penstock config show {closed}"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (ExitCode.OK, b"")


def test_settings_that_librdkafka_refuses_are_wrong_settings(tmp_path: Path) -> None:
    done = penstock("dlq", "list", cwd=tmp_path, PENSTOCK_KAFKA_CONFIG='{"no.such": 1}')
    assert done.returncode == ExitCode.CONFIG
    assert 'No such configuration property: "no.such". Correct kafka_config' in " ".join(done.stderr.split())
    assert "KafkaError{" not in done.stderr


def test_a_foreseeable_fault_is_said_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    log = "\n  the end of a log, as it was written"
    report(PenstockError(f"postgresql://u:{SECRET}@h/d is away. " + "Try again. " * 20 + log))
    said = capsys.readouterr().err
    assert said.startswith("Error: postgresql://u:***@h/d is away.")
    assert said.endswith(f"{log}\n")
    assert all(len(line) <= 100 for line in said.splitlines())
    assert SECRET not in said


def test_a_fault_of_penstock_keeps_its_traceback_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError(f"postgresql://u:{SECRET}@h/d")
    report(caught.value)
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["migrate", "current"], ExitCode.UNAVAILABLE, "no connection"),
        (["migrate", "check"], ExitCode.UNAVAILABLE, "no connection"),
        (["retention", "plan"], ExitCode.UNAVAILABLE, "does not answer"),
        (["retention", "run", "--dry-run"], ExitCode.UNAVAILABLE, "does not answer"),
        (["doctor"], ExitCode.FAILED, ""),
        (["demo", "nothing.jsonl"], ExitCode.DATA, "nothing.jsonl"),
    ],
)
def test_missing_servers_and_files_are_said_in_words(
    tmp_path: Path, arguments: list[str], code: ExitCode, said: str
) -> None:
    done = penstock(
        *arguments,
        cwd=tmp_path,
        PENSTOCK_DATABASE_URL=f"postgresql://u:{SECRET}@127.0.0.1:1/d",
        PENSTOCK_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1",
        PENSTOCK_SCHEMA_REGISTRY_URL=f"http://u:{SECRET}@127.0.0.1:1",
        PENSTOCK_TIMEOUT_SECONDS="1",
    )
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("said", "hinted"),
    [
        ("Kafka at localhost:9092 did not answer.", True),
        ("PostgreSQL at postgresql://localhost:5432/penstock is away.", True),
        ("Kafka at kafka.localhost:9092 did not answer.", False),
        ("Kafka at localhost:90921 did not answer.", False),
        ("Kafka at k:9092 did not answer.", False),
    ],
)
def test_a_failure_at_a_built_in_address_hints_at_the_stack(
    said: str, hinted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(ServerUnavailableError(said)) is ExitCode.UNAVAILABLE
    assert ("penstock up" in capsys.readouterr().err) is hinted


def test_a_worker_without_any_address_says_so() -> None:
    with structlog.testing.capture_logs() as logs:
        say_defaults(Settings(worker_database_url="postgresql://w@h/d"))
    (line,) = logs
    assert line["kafka_bootstrap_servers"] == "localhost:9092"
    assert "database_url" not in line
    assert "penstock up" in line["advice"]
    with structlog.testing.capture_logs() as logs:
        say_defaults(Settings(kafka_bootstrap_servers="k:1", database_url="postgresql://w@h/d",
                              schema_registry_url="http://r"))  # fmt: skip
    assert logs == []


def test_status_of_another_stack_says_how_to_start_that_one(tmp_path: Path) -> None:
    done = penstock("status", "--stack", "nosuch", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (ExitCode.UNAVAILABLE, "")
    assert "penstock up --stack nosuch" in " ".join(done.stderr.split())


def test_a_replay_that_another_took_over_was_stopped_before_its_end() -> None:
    from penstock_consumer.errors import ReplayTakenOver

    assert exit_code_of(ReplayTakenOver("x")) is ExitCode.FAILED


def test_a_stack_that_was_never_started_has_nothing_to_keep(tmp_path: Path) -> None:
    done = penstock("down", "--stack", "nosuch", cwd=tmp_path)
    assert done.returncode == ExitCode.OK
    assert "there is none here" in done.stdout
    assert "kept" not in done.stdout
    assert not (tmp_path / ".penstock").exists()


def test_the_argument_of_the_demo_is_optional_once(capsys: pytest.CaptureFixture[str]) -> None:
    run(["demo", "--help"])
    shown = capsys.readouterr().out
    assert "[FILE]" in shown
    assert "[[FILE]]" not in shown


def test_the_list_of_make_has_no_escape_codes_in_a_pipe() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("there is no make here")
    done = subprocess.run(
        [make, "-C", str(ROOT), "help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "make test" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(("count", "said"), [(0, "0 events"), (1, "1 event"), (1_200, "1,200 events")])
def test_one_is_not_many(count: int, said: str) -> None:
    assert counted(count, "event") == said


def test_doctor_gives_its_advice_on_kafka_once() -> None:
    (finding,), _, _ = examine_kafka(KafkaView({"bootstrap.servers": "127.0.0.1:1"}, timeout=0.5), ["t"])
    assert "127.0.0.1:1 does not answer" in finding.detail
    assert f"{finding.detail} {finding.advice}".count("Start it") == 1


def test_wrong_settings_name_the_key_and_end_with_their_code(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text(f'databse_url = "postgresql://u:{SECRET}@h/d"\n')
    done = penstock("doctor", cwd=tmp_path)
    assert done.returncode == ExitCode.CONFIG
    assert "databse_url (from penstock.toml): unknown key" in " ".join(done.stderr.split())
    assert SECRET not in done.stderr


def test_settings_are_shown_without_passwords(tmp_path: Path) -> None:
    url = f"postgresql://u:{SECRET}@h/d"
    done = penstock("config", "show", "--json", cwd=tmp_path, PENSTOCK_WORKER_DATABASE_URL=url)
    assert done.returncode == ExitCode.OK
    assert SECRET not in done.stdout
    assert "postgresql://u:***@h/d" in done.stdout


def test_the_upgrade_can_be_printed_without_a_server(tmp_path: Path) -> None:
    done = penstock("migrate", "--sql", cwd=tmp_path)
    assert done.returncode == ExitCode.OK
    assert "CREATE TABLE penstock.events" in done.stdout
    assert penstock("migrate", "--sql", "up", cwd=tmp_path).returncode == ExitCode.USAGE


def test_completion_is_offered(tmp_path: Path) -> None:
    done = penstock(
        "--show-completion", "bash", cwd=tmp_path, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert "_PENSTOCK_COMPLETE" in done.stdout


def test_an_interruption_while_the_commands_are_imported_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "penstock.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "penstock.cli.app")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [["--help"], ["config", "show"]])
def test_who_stops_reading_ends_a_command_quietly(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "penstock", *arguments],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (ExitCode.PIPE, b"")
