"""The catalogue of the repository holds, and the check notices when it does not."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock_schemas.catalogue import check, load
from penstock_schemas.errors import CatalogueError

CATALOGUE = Path(__file__).parents[2] / "schemas/catalogue"


def test_the_catalogue_holds() -> None:
    report = check(CATALOGUE)
    assert [str(problem) for problem in report.problems] == []
    assert report.ok
    assert report.event_types >= 5
    assert report.versions > report.event_types
    assert report.valid >= report.versions
    assert report.invalid >= report.versions


def test_entries() -> None:
    entries = {(entry.event_type, entry.version): entry for entry in load(CATALOGUE)}
    assert {("parcel.registered", 1), ("parcel.registered", 2)} <= entries.keys()
    wire = json.loads(entries["parcel.registered", 2].wire_schema)
    assert wire["name"] == "parcels.ParcelRegisteredEvent"
    assert "event_id" in {field["name"] for field in wire["fields"]}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(CATALOGUE, tmp_path / "catalogue")
    return tmp_path / "catalogue"


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


REGISTERED = "parcel.registered/v2/"
GOOD = REGISTERED + "examples/valid/declared.json"
BAD = REGISTERED + "examples/invalid/value-too-precise.json"
GOOD_PAYLOAD = json.loads((CATALOGUE / GOOD).read_text())["payload"]


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        (GOOD, lambda e: e | {"payload": e["payload"] | {"weight_grams": "1"}}, "is refused:"
                                                         " payload.weight_grams:"),
        (GOOD, lambda e: e | {"schema_version": 1}, "is refused: event_type: is parcel.registered version 1"),
        (GOOD, lambda e: e | {"tenant_id": ""}, "is refused: tenant_id: is empty"),
        (GOOD, lambda e: e | {"payload": e["payload"] | {"declared_value": "1.5"}}, "not in JSON form;"
                                                         " write .*\"1.50\""),
        (BAD, lambda e: e | {"error": "another reason"}, "fails with .*, not with 'another reason'"),
        (BAD, lambda e: e | {"event": e["event"] | {"payload": GOOD_PAYLOAD}}, "passes, and should fail"),
        (BAD, lambda e: {"event": e["event"]}, "has to be {"),
        (
            REGISTERED + "schema.avsc",
            lambda s: s | {"fields": [*s["fields"], {"name": "extra", "type": "string"}]},
            "is not BACKWARD_TRANSITIVE: new reads version 1: /payload/extra: reader field missing default",
        ),
        (REGISTERED + "schema.avsc", lambda s: s | {"fields": [{"name": "x", "type": "?"}]}, r"type '\?'"
                                                                " is not defined"),
    ],
)  # fmt: skip
def test_faults_are_found(copy: Path, path: str, change: Callable[[Any], Any], said: str) -> None:
    edit(copy / path, change)
    problems = check(copy).problems
    assert any(re.search(said, str(problem)) for problem in problems), problems


def test_every_version_has_examples(copy: Path) -> None:
    shutil.rmtree(copy / REGISTERED / "examples")
    assert [problem.message.split(";")[0] for problem in check(copy).problems] == [
        "has no valid example",
        "has no invalid example",
    ]


def test_layout(copy: Path) -> None:
    (copy / "parcel.registered/v1").rename(copy / "parcel.registered/v3")
    with pytest.raises(CatalogueError, match="count from 1 without a gap"):
        load(copy)
    (copy / "parcel.registered/v3").rename(copy / "parcel.registered/first")
    with pytest.raises(CatalogueError, match="is called v1, v2"):
        load(copy)
    (copy / "parcel.registered/event.toml").write_text('summary = "x"\ncompatibility = "MOSTLY"\n')
    with pytest.raises(CatalogueError, match="MOSTLY"):
        load(copy)


def test_broken_files(copy: Path) -> None:
    (copy / GOOD).write_text("{")
    (copy / BAD).write_text("{")
    problems = {problem.path.name: problem.message for problem in check(copy).problems}
    assert problems.keys() == {"declared.json", "value-too-precise.json"}
    assert all("is not JSON" in message for message in problems.values())
    (copy / REGISTERED / "schema.avsc").write_text('{"type":"record"}')
    with pytest.raises(CatalogueError, match="has to be an Avro record"):
        load(copy)


def test_an_empty_catalogue(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="holds no event type"):
        check(tmp_path)
