"""Metric definitions: one place, one spelling."""

import re
from typing import Any

import pytest

from penstock_schemas import metric_defs
from penstock_schemas.metric_defs import ALL, Kind, Metric


def test_every_definition_is_in_all_exactly_once() -> None:
    defined = [value for value in vars(metric_defs).values() if isinstance(value, Metric)]
    assert sorted(metric.name for metric in ALL) == sorted(metric.name for metric in defined)
    assert len({metric.name for metric in ALL}) == len(ALL)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_spelling(metric: Metric) -> None:
    assert re.fullmatch(r"penstock_[a-z]+(_[a-z]+)+", metric.name)
    assert metric.help.endswith(".")
    assert len(set(metric.labels)) == len(metric.labels)
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_series() -> None:
    histogram = Metric(kind=Kind.HISTOGRAM, name="penstock_a_seconds", help="A.", buckets=(1.0,))
    assert histogram.series == (
        "penstock_a_seconds_bucket",
        "penstock_a_seconds_sum",
        "penstock_a_seconds_count",
    )
    assert Metric(kind=Kind.COUNTER, name="penstock_a_total", help="A.").series == ("penstock_a_total",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": Kind.COUNTER, "name": "penstock_a"},
        {"kind": Kind.GAUGE, "name": "penstock_a_total"},
        {"kind": Kind.HISTOGRAM, "name": "penstock_a"},
        {"kind": Kind.GAUGE, "name": "penstock_a", "buckets": (1.0,)},
        {"kind": Kind.INFO, "name": "penstock_a"},
    ],
)
def test_wrong_definitions(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"metric {wrong['name']}: "):
        Metric(help="A.", **wrong)
