"""docker-compose.yml names only what exists: files, commands, options, roles, services.

No Docker is asked: this runs where there is none.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from fixtures import containers
from penstock.cli.app import build
from penstock.settings import Settings
from penstock.stack import _containers, _roles

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)


def test_the_services_of_the_pipeline_are_there() -> None:
    assert {
        "kafka",
        "postgresql",
        "registry",
        "worker",
        "retention",
        "prometheus",
        "grafana",
    } <= SERVICES.keys()
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_mounts_and_build_files_exist(name: str) -> None:
    for mount in SERVICES[name].get("volumes", ()):
        source = mount.split(":")[0]
        if source.startswith("."):
            assert (ROOT / source).exists(), mount
        else:
            assert source in COMPOSE["volumes"], mount
    built = SERVICES[name].get("build")
    if built:
        assert (ROOT / built["context"] / built["dockerfile"]).is_file()


@pytest.mark.parametrize("name", OURS)
def test_commands_and_their_options_exist(name: str) -> None:
    command: Any = typer.main.get_command(build())
    rest = [str(word) for word in SERVICES[name]["command"]]
    while hasattr(command, "commands") and not (command.invoke_without_command and not rest):
        assert rest
        assert rest[0] in command.commands, SERVICES[name]["command"]
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


@pytest.mark.parametrize("name", OURS)
def test_settings_exist(name: str) -> None:
    fields = {f"PENSTOCK_{field.upper()}" for field in Settings.model_fields}
    assert SERVICES[name]["environment"].keys() <= fields


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"migrate"}))  # which ends when it is done
def test_every_service_has_a_health_check_and_a_restart_policy(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == ("on-failure:5" if name == "worker" else "unless-stopped")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_dependencies_are_services_whose_condition_can_come_true(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert how["condition"] == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "no"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_ports_are_published_on_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:${PENSTOCK_"), port


def test_each_process_logs_in_as_itself() -> None:
    logins = {
        name: re.match(r"postgresql://(\w+):", url).group(1)
        for name in OURS
        for variable, url in SERVICES[name]["environment"].items()
        if variable.endswith("DATABASE_URL")
    }
    assert logins == {
        "migrate": _roles.LOGINS["owner"],
        "registry": _roles.LOGINS["registry"],
        "retention": _roles.LOGINS["retention"],
        "worker": _roles.LOGINS["worker"],
    }


def test_the_roles_are_those_of_the_native_stack() -> None:
    script = (ROOT / "deploy" / "postgresql" / "roles.sh").read_text()
    made = set(re.findall(r"CREATE ROLE (\w+)", script))
    assert made == {*_roles.LOGINS.values(), *_roles.GROUPS.values()}
    for role, group in _roles.GROUPS.items():
        assert re.search(rf"CREATE ROLE {_roles.LOGINS[role]} LOGIN .*IN ROLE {group};", script)


def test_the_stack_knows_the_variables_of_the_ports_it_chooses() -> None:
    text = Path(_containers.__file__).read_text()
    for variable in re.findall(r'"(PENSTOCK_\w+)"', text):
        assert f"${{{variable}:-" in (ROOT / "docker-compose.yml").read_text(), variable


def test_the_dashboard_folder_is_where_grafana_is_told_to_look() -> None:
    provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/penstock.yml").read_text())
    targets = [mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]]
    assert provider["providers"][0]["options"]["path"] in targets


def test_the_tests_containers_are_those_of_the_file_with_their_own_ports() -> None:
    image, environment = containers.service("kafka", {"PENSTOCK_KAFKA_PORT": "29999"})
    assert image == SERVICES["kafka"]["image"]
    assert environment["KAFKA_ADVERTISED_LISTENERS"].endswith("OUTSIDE://127.0.0.1:29999")
    _, environment = containers.service("postgresql", {"PENSTOCK_POSTGRES_PASSWORD": "p"})
    assert environment["POSTGRES_PASSWORD"] == "p"
    assert not any("$" in value for value in environment.values())
