"""Settings: the documented order, unknown keys named, and no password where a person can read it."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import SettingsError
from penstock.redaction import masked, redact
from penstock.settings import DatabaseRole, Settings, load_settings
from penstock.stack import StackError
from penstock.stack._process import ProcessRecord
from penstock.stack._state import ROLES, KafkaState, PostgresState, StackState, save, stack_folder

SECRET = "s3cr3t-passphrase"


def _write_layers(root: Path, layers: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Put the same setting into the given layers; returns (environment, options)."""
    (root / "penstock.toml").unlink(missing_ok=True)
    (root / ".penstock" / "local" / "stack.json").unlink(missing_ok=True)
    if "toml" in layers:
        (root / "penstock.toml").write_text(f"kafka_bootstrap_servers = {json.dumps(layers['toml'])}\n")
    if "stack" in layers:
        _write_stack(root, kafka=layers["stack"])
    environ = {"PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": layers["environment"]} if "environment" in layers else {}
    options = {"kafka_bootstrap_servers": layers["option"]} if "option" in layers else {}
    return environ, options


def _write_stack(root: Path, *, kafka: str, database: str | None = None, running: bool = True) -> None:
    process = ProcessRecord(pid=1, started="", log=root / "log") if running else None
    state = StackState(
        name="local",
        kafka=KafkaState(mode="native", bootstrap_servers=kafka, process=process),
        postgresql=PostgresState(mode="native", urls=dict.fromkeys(ROLES, database), process=process)
        if database
        else None,
    )
    save(stack_folder("local", root), state)


ORDER = ("option", "environment", "toml", "stack")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(present=st.sets(st.sampled_from(ORDER)))
def test_the_first_layer_that_has_a_setting_wins(tmp_path: Path, present: set[str]) -> None:
    environ, options = _write_layers(tmp_path, {layer: f"{layer}:9092" for layer in present})
    found = load_settings(root=tmp_path, environ=environ, **options).kafka_bootstrap_servers
    assert found == next((f"{layer}:9092" for layer in ORDER if layer in present), "localhost:9092")


def test_an_unknown_key_of_the_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text('kafka_bootstrap_server = "a:1"\n')
    with pytest.raises(SettingsError, match=r"kafka_bootstrap_server \(from penstock.toml\): unknown key"):
        load_settings(root=tmp_path, environ={})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PENSTOCK_DATABASE_URL": f"mysql://u:{SECRET}@h/d"}, "PENSTOCK_DATABASE_URL"),
        ({"PENSTOCK_SCHEMA_REGISTRY_URL": f"u:{SECRET}@h"}, "PENSTOCK_SCHEMA_REGISTRY_URL"),
        (
            {"PENSTOCK_KAFKA_CONFIG": f'{{"sasl.password": "{SECRET}"'},
            "PENSTOCK_KAFKA_CONFIG in the environment",
        ),
        ({"PENSTOCK_KAFKA_CONFIG": '{"bootstrap.servers": "a:1"}'}, "kafka_bootstrap_servers"),
        ({"PENSTOCK_LOG_LEVEL": "loud"}, "PENSTOCK_LOG_LEVEL"),
        ({"PENSTOCK_RETAIN_DAYS": "0"}, "PENSTOCK_RETAIN_DAYS"),
    ],
)
def test_a_bad_value_is_named_and_not_shown(tmp_path: Path, environ: dict[str, str], expected: str) -> None:
    with pytest.raises(SettingsError, match=expected) as caught:
        load_settings(root=tmp_path, environ=environ)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_stack_cannot_be_named_out_of_its_folder(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="elsewhere"):
        load_settings(root=tmp_path, environ={"PENSTOCK_STACK": "../elsewhere"})


def test_a_file_that_is_no_toml_says_where(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("topics = [")
    with pytest.raises(SettingsError, match=r"penstock\.toml"):
        load_settings(root=tmp_path, environ={})


def test_a_stack_file_that_is_no_json_says_where(tmp_path: Path) -> None:
    stack = stack_folder("local", tmp_path)
    stack.mkdir(parents=True)
    (stack / "stack.json").write_text("{")
    with pytest.raises(StackError, match=r"stack\.json"):
        load_settings(root=tmp_path, environ={})
    assert load_settings(root=tmp_path, environ={}, servers=False) == Settings()


def test_a_stack_that_was_stopped_gives_no_addresses(tmp_path: Path) -> None:
    _write_stack(tmp_path, kafka="stack:9092", running=False)
    assert load_settings(root=tmp_path, environ={}).kafka_bootstrap_servers == "localhost:9092"


@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_stack_asked_for_by_name_that_does_not_run_is_said_so(tmp_path: Path, by: str) -> None:
    options = {"stack": "nosuch"} if by == "option" else {}
    environ = {"PENSTOCK_STACK": "nosuch"} if by == "environment" else {}
    with pytest.raises(StackError, match=r"'nosuch' is running .*penstock up --stack nosuch"):
        load_settings(root=tmp_path, environ=environ, **options)
    assert load_settings(root=tmp_path, environ=environ, servers=False, **options).stack == "nosuch"


def test_a_named_stack_need_not_run_where_other_servers_are_given(tmp_path: Path) -> None:
    environ = {"PENSTOCK_STACK": "nosuch", "PENSTOCK_KAFKA_BOOTSTRAP_SERVERS": "k:9092"}
    assert load_settings(root=tmp_path, environ=environ).kafka_bootstrap_servers == "k:9092"


def test_each_role_falls_back_to_the_owner(tmp_path: Path) -> None:
    environ = {
        "PENSTOCK_DATABASE_URL": "postgresql+asyncpg://owner@h/d",
        "PENSTOCK_WORKER_DATABASE_URL": "postgres://worker@h/d",
    }
    found = load_settings(root=tmp_path, environ=environ)
    assert found.database(DatabaseRole.WORKER) == "postgresql://worker@h/d"
    assert found.database(DatabaseRole.RETENTION) == found.database() == "postgresql://owner@h/d"


def test_topics_are_a_comma_separated_list_in_the_environment_and_a_list_in_the_file(tmp_path: Path) -> None:
    assert load_settings(root=tmp_path, environ={"PENSTOCK_TOPICS": "a, b"}).topics == ("a", "b")
    (tmp_path / "penstock.toml").write_text('topics = ["c"]\n')
    assert load_settings(root=tmp_path, environ={}).topics == ("c",)


def test_no_form_of_the_settings_shows_a_password() -> None:
    found = Settings(
        database_url=f"postgresql://u:{SECRET}@h/d",
        schema_registry_url=f"https://u:{SECRET}@h",
        kafka_config={"sasl.password": SECRET, "sasl.username": "u"},
    )
    for text in (
        repr(found),
        str(found),
        found.model_dump_json(exclude={"kafka_config"}),
        str(found.shown()),
    ):
        assert SECRET not in text
    assert found.kafka()["sasl.password"] == SECRET
    assert found.database() == f"postgresql://u:{SECRET}@h/d"


@given(
    # What a person may type into a URL without quoting it: everything but blanks and quotes.
    st.text(
        st.characters(blacklist_categories=("Z", "C"), blacklist_characters="'\"*"), min_size=4, max_size=20
    )
)
def test_a_password_in_a_url_is_masked_whatever_it_is(password: str) -> None:
    masked = redact(f"connect to postgresql://user:{password}@host:5432/db failed")
    assert masked == "connect to postgresql://user:***@host:5432/db failed"


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET} host=h",
        f"SASL.PASSWORD: '{SECRET}'",
        f'{{"api_token": "{SECRET}"}}',
        f"a?password={SECRET}&b",
    ],
)
def test_a_password_in_a_pair_is_masked(text: str) -> None:
    assert SECRET not in redact(text)


def test_redaction_leaves_text_without_secrets_alone() -> None:
    text = "Kafka at localhost:9092 and http://localhost:8081/subjects answered; 3 tokens"
    assert redact(text) == text
    assert masked({"a": 1, "ssl.key.password": "x"}) == {"a": 1, "ssl.key.password": "***"}


@given(st.text(min_size=3).map(lambda text: f"{text}{SECRET}"), st.booleans())
def test_a_password_in_json_is_masked_whatever_it_is(password: str, inner: bool) -> None:
    document: object = {"user": "x", "db_password": password, "after": 1}
    if inner:
        document = {"text": json.dumps(document)}
    assert SECRET not in json.dumps(masked(document))
    for text in (json.dumps(document), json.dumps(document, ensure_ascii=False)):
        assert SECRET not in redact(text)


def test_a_masked_pair_keeps_what_stands_beside_it() -> None:
    text = '{"password": "correct horse battery, staple", "user": "x"}'
    assert redact(text) == '{"password": "***", "user": "x"}'
    assert redact("username='u' password='p q' host=h") == "username='u' password='***' host=h"


def test_a_database_url_of_ones_own_is_not_mixed_with_the_stacks_logins(tmp_path: Path) -> None:
    _write_stack(tmp_path, kafka="stack:9092", database="postgresql://stack@stack/penstock")
    found = load_settings(root=tmp_path, environ={"PENSTOCK_DATABASE_URL": "postgresql://me@prod/p"})
    assert {found.database(role) for role in DatabaseRole} == {"postgresql://me@prod/p"}
    assert found.kafka_bootstrap_servers == "stack:9092"


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().topics = ("x",)  # type: ignore[misc]


def test_the_example_file_is_valid_and_complete(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "deploy" / "penstock.example.toml"
    lines = [line.removeprefix("# ") if " = " in line else "" for line in example.read_text().splitlines()]
    (tmp_path / "penstock.toml").write_text("\n".join(lines))
    load_settings(root=tmp_path, environ={})
    assert set(tomllib.loads("\n".join(lines))) == set(Settings.model_fields)
