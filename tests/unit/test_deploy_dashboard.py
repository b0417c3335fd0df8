"""The dashboard and the scrape configuration name only what exists."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from penstock.metrics import process_registry
from penstock_schemas.metric_defs import ALL, Metric

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))

_SERIES: dict[str, Metric] = {series: metric for metric in ALL for series in metric.series}
# What Prometheus adds to every series, and what Grafana's `le` means in a histogram.
_ADDED_LABELS = {"job", "instance", "le"}
_WORDS = {
    "by",
    "without",
    "on",
    "ignoring",
    "and",
    "or",
    "unless",
    "offset",
    "bool",
    "group_left",
    "group_right",
}
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_LABEL = re.compile(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*\"[^\"]*\"")


def _standard_series() -> set[str]:
    """Series that the client library or Prometheus itself gives: read from a real scrape, not from memory."""
    text = generate_latest(process_registry("test")).decode()
    return {re.split(r"[ {]", line)[0] for line in text.splitlines() if not line.startswith("#")} | {"up"}


def metrics_of(expr: str) -> set[str]:
    """Names of the series in a PromQL expression: what is no function, word, label or duration."""
    bare = _GROUPING.sub("", re.sub(r"\[[^\]]*\]", "", re.sub(r"\{[^}]*\}", "", expr)))
    names = re.finditer(r"(?<![\w.])([a-zA-Z_:][\w:]*)(\s*\()?", re.sub(r"\"[^\"]*\"", "", bare))
    return {name[1] for name in names if not name[2] and name[1] not in _WORDS}


def labels_of(expr: str) -> set[str]:
    """Labels that a PromQL expression selects or groups by."""
    bare = re.sub(r"\{[^}]*\}", "", expr)
    grouped = {name.strip() for group in _GROUPING.findall(bare) for name in group.split(",")}
    return grouped | {label for _, inside in _SELECTOR.findall(expr) for label in _LABEL.findall(inside)}


def _panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.name)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(request.param.read_text())
    return loaded


def test_there_is_a_dashboard() -> None:
    assert DASHBOARDS


@pytest.mark.parametrize(
    ("expr", "names", "labels"),
    [
        ("sum(up)", {"up"}, set()),
        ('sum by (a, b) (rate(x_total{c="by (z)"}[5m])) / y', {"x_total", "y"}, {"a", "b", "c"}),
        ("histogram_quantile(0.95, sum by (le) (rate(x_bucket[$__rate_interval])))", {"x_bucket"}, {"le"}),
        ("time() - max(x_seconds) > bool 1e3", {"x_seconds"}, set()),
    ],
)
def test_the_reader_of_expressions_finds_what_they_name(expr: str, names: set[str], labels: set[str]) -> None:
    assert (metrics_of(expr), labels_of(expr)) == (names, labels)


def test_every_expression_names_metrics_that_exist(dashboard: dict[str, Any]) -> None:
    known = set(_SERIES) | _standard_series()
    exprs = [target["expr"] for panel in _panels(dashboard) for target in panel["targets"]]
    assert exprs
    assert {expr: unknown for expr in exprs if (unknown := metrics_of(expr) - known)} == {}
    assert all(metrics_of(expr) for expr in exprs)


def test_every_label_belongs_to_the_metric(dashboard: dict[str, Any]) -> None:
    for panel in _panels(dashboard):
        for target in panel["targets"]:
            has = {
                label
                for name in metrics_of(target["expr"])
                if name in _SERIES
                for label in _SERIES[name].labels
            }
            assert labels_of(target["expr"]) <= has | _ADDED_LABELS, target["expr"]
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert legend <= labels_of(target["expr"]) | _ADDED_LABELS, target["legendFormat"]


def test_counters_are_read_as_rates(dashboard: dict[str, Any]) -> None:
    for panel in _panels(dashboard):
        for target in panel["targets"]:
            for name in re.findall(r"\w+_(?:total|bucket|sum|count)\b", target["expr"]):
                assert re.search(rf"(?:rate|increase)\({name}\b", target["expr"]), target["expr"]


def test_every_panel_has_a_title_a_unit_and_an_explanation(dashboard: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in _panels(dashboard)]
    assert len(set(titles)) == len(titles)
    for panel in _panels(dashboard):
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_data_source_is_the_provisioned_one(dashboard: dict[str, Any]) -> None:
    provisioned = (DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    used = {panel["datasource"]["uid"] for panel in _panels(dashboard)}
    assert used == set(re.findall(r"^\s+uid: (\S+)$", provisioned, re.MULTILINE))


ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_names_what_exists_and_says_what_to_do(rule: dict[str, Any]) -> None:
    expr, said = rule["expr"], rule["annotations"]
    names = metrics_of(expr)
    assert names
    assert names <= set(_SERIES) | _standard_series()
    has = {label for name in names if name in _SERIES for label in _SERIES[name].labels}
    assert labels_of(expr) <= has | _ADDED_LABELS
    assert set(re.findall(r"\$labels\.(\w+)", said["summary"])) <= labels_of(expr)
    assert said["description"]
    jobs = set(re.findall(r'job="([^"]+)"', expr))
    assert jobs <= {job for job, _, _ in _scraped()}
    for name in re.findall(r"\w+_total\b", expr):
        assert re.search(rf"(?:rate|increase)\({name}\b", expr)


def test_prometheus_reads_the_alerts() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == ["alerts.yml"]


def _scraped() -> list[tuple[str, str, int]]:
    """(job, service, port) of every scrape target that is found by DNS."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    return [
        (job["job_name"], name, found["port"])
        for job in config["scrape_configs"]
        for found in job.get("dns_sd_configs", ())
        for name in found["names"]
    ]


@pytest.mark.parametrize(("job", "service", "port"), _scraped(), ids=lambda value: str(value))
def test_every_scrape_target_is_a_service_that_serves_there(job: str, service: str, port: int) -> None:
    services = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]
    command = services[service]["command"]
    assert str(port) in command
    assert "0.0.0.0" in command or services[service]["environment"]["PENSTOCK_METRICS_HOST"] == "0.0.0.0"
    assert job == f"penstock-{service}"


def test_the_scrape_interval_is_what_grafana_derives_its_rates_from() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["global"][
        "scrape_interval"
    ]
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())
    assert sources["datasources"][0]["jsonData"]["timeInterval"] == scraped


def test_every_worker_metric_that_tells_of_trouble_is_shown(dashboard: dict[str, Any]) -> None:
    shown = {
        name
        for panel in _panels(dashboard)
        for target in panel["targets"]
        for name in metrics_of(target["expr"])
    }
    assert {
        "penstock_worker_dead_letters_total",
        "penstock_worker_partition_stopped",
        "penstock_worker_database_up",
        "penstock_worker_lag",
        "penstock_retention_last_run_timestamp_seconds",
    } <= shown
