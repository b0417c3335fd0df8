"""The registry against a model of it, by random sequences of what clients do; and against junk."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from penstock_schemas.compatibility import Compatibility, check_compatibility

LEVELS = st.sampled_from(list(Compatibility))
SUBJECTS = st.sampled_from(["orders-value", "orders/key", "größe"])
_numbers = itertools.count()


def _schema(fields: dict[str, tuple[str, bool]]) -> dict[str, Any]:
    zero = {"int": 0, "long": 0, "string": ""}
    own = [
        {"name": name, "type": kind} | ({"default": zero[kind]} if has_default else {})
        for name, (kind, has_default) in sorted(fields.items())
    ]
    return {"type": "record", "name": "model.Record", "fields": own}


SCHEMAS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.tuples(st.sampled_from(["int", "long", "string"]), st.booleans()),
    max_size=3,
).map(_schema)
SPELLINGS: list[Callable[[dict[str, Any]], str]] = [
    json.dumps,
    lambda schema: json.dumps(schema, indent=1, sort_keys=True),
    lambda schema: json.dumps({**schema, "name": "Record", "namespace": "model"}),
    lambda schema: json.dumps(
        {**schema, "fields": [{**field, "type": {"type": field["type"]}} for field in schema["fields"]]}
    ),
]


class RegistryMachine(RuleBasedStateMachine):
    """Subjects get a suffix of their own in each run, as the database is one for all runs."""

    client: httpx.Client
    ids: dict[str, int]  # of all runs: a schema keeps its id for ever

    @initialize(level=LEVELS)
    def start(self, level: Compatibility) -> None:
        self.suffix = f"-{next(_numbers)}"
        self.subjects: dict[str, list[str]] = {}
        self.levels: dict[str, Compatibility] = {}
        self.set_global_level(level)

    def _path(self, subject: str) -> str:
        return quote(subject + self.suffix, safe="")

    def _level(self, subject: str) -> Compatibility:
        return self.levels.get(subject, self.global_level)

    def _problems(self, subject: str, key: str) -> list[str]:
        return check_compatibility(key, self.subjects.get(subject, []), self._level(subject))

    @rule(subject=SUBJECTS, schema=SCHEMAS, spell=st.sampled_from(SPELLINGS))
    def register(self, subject: str, schema: dict[str, Any], spell: Callable[[dict[str, Any]], str]) -> None:
        key = json.dumps(schema)
        answer = self.client.post(f"/subjects/{self._path(subject)}/versions", json={"schema": spell(schema)})
        versions = self.subjects.get(subject, [])
        if key not in versions and self._problems(subject, key):
            assert (answer.status_code, answer.json()["error_code"]) == (409, 409)
            return
        assert answer.status_code == 200, answer.text
        assert self.ids.setdefault(key, answer.json()["id"]) == answer.json()["id"]
        if key not in versions:
            self.subjects.setdefault(subject, []).append(key)

    @rule(subject=SUBJECTS, schema=SCHEMAS, spell=st.sampled_from(SPELLINGS))
    def look_up(self, subject: str, schema: dict[str, Any], spell: Callable[[dict[str, Any]], str]) -> None:
        key = json.dumps(schema)
        answer = self.client.post(f"/subjects/{self._path(subject)}", json={"schema": spell(schema)})
        versions = self.subjects.get(subject, [])
        if key in versions:
            found = answer.json()
            assert (found["version"], found["id"]) == (versions.index(key) + 1, self.ids[key])
            assert found["subject"] == subject + self.suffix
        else:
            assert (answer.status_code, answer.json()["error_code"]) == (404, 40403 if versions else 40401)

    @rule(subject=SUBJECTS, schema=SCHEMAS)
    def ask_whether_it_could_be_registered(self, subject: str, schema: dict[str, Any]) -> None:
        answer = self.client.post(
            f"/compatibility/subjects/{self._path(subject)}/versions?verbose=true",
            json={"schema": json.dumps(schema)},
        )
        problems = self._problems(subject, json.dumps(schema))
        assert answer.json() == {"is_compatible": not problems, "messages": problems}

    @rule(subject=SUBJECTS, schema=SCHEMAS, version=st.integers(1, 4) | st.just("latest"))
    def compare_with_a_version(self, subject: str, schema: dict[str, Any], version: int | str) -> None:
        answer = self.client.post(
            f"/compatibility/subjects/{self._path(subject)}/versions/{version}",
            json={"schema": json.dumps(schema)},
        )
        versions = self.subjects.get(subject, [])
        if isinstance(version, int) and version > len(versions):
            assert answer.json()["error_code"] == (40402 if versions else 40401)
            return
        against = versions[-1:] if isinstance(version, str) else [versions[version - 1]]
        problems = check_compatibility(json.dumps(schema), against, self._level(subject))
        assert answer.json() == {"is_compatible": not problems}

    @rule(subject=SUBJECTS, version=st.integers(1, 4) | st.just("latest"))
    def get_version(self, subject: str, version: int | str) -> None:
        answer = self.client.get(f"/subjects/{self._path(subject)}/versions/{version}")
        versions = self.subjects.get(subject, [])
        number = len(versions) if isinstance(version, str) else version
        if 1 <= number <= len(versions):
            found = answer.json()
            assert (found["version"], found["id"]) == (number, self.ids[versions[number - 1]])
            by_id = self.client.get(f"/schemas/ids/{found['id']}").json()
            assert by_id == {"schema": found["schema"]}
        else:
            assert answer.json()["error_code"] == (40402 if versions else 40401)

    @rule(level=LEVELS)
    def set_global_level(self, level: Compatibility) -> None:
        assert self.client.put("/config", json={"compatibility": level}).json() == {"compatibility": level}
        self.global_level = level

    @rule(subject=SUBJECTS, level=LEVELS)
    def set_level(self, subject: str, level: Compatibility) -> None:
        self.client.put(f"/config/{self._path(subject)}", json={"compatibility": level})
        self.levels[subject] = level

    @rule(subject=SUBJECTS)
    def get_level(self, subject: str) -> None:
        answer = self.client.get(f"/config/{self._path(subject)}").json()
        own = self.levels.get(subject)
        assert answer.get("compatibilityLevel") == own
        assert own or answer["error_code"] == 40408
        answer = self.client.get(f"/config/{self._path(subject)}?defaultToGlobal=true").json()
        assert answer == {"compatibilityLevel": self._level(subject)}

    @rule()
    def versions_are_those_of_the_model(self) -> None:
        listed = set(self.client.get("/subjects").json())
        for subject, versions in self.subjects.items():
            answer = self.client.get(f"/subjects/{self._path(subject)}/versions")
            assert answer.json() == list(range(1, len(versions) + 1))
            assert subject + self.suffix in listed


@pytest.fixture
def client(registry: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=registry, timeout=30) as client:
        yield client


def test_the_registry_does_what_its_model_does(client: httpx.Client) -> None:
    machine = type("Machine", (RegistryMachine,), {"client": client, "ids": {}})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=settings.default.max_examples // 8,
            stateful_step_count=25,
            deadline=None,  # it waits for real servers, shared with other tests
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["type", "name", "namespace", "aliases", "fields", "default", "items", "values", "symbols", "size"]
)
WORDS = KEYS | st.sampled_from(
    ["record", "enum", "fixed", "array", "map", "int", "string", "null", "error", "logicalType", "decimal"]
)
ALMOST_SCHEMA = st.recursive(
    WORDS | st.integers(-1, 3) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=25,
)
ALMOST_BODY = st.fixed_dictionaries(
    {"schema": JSON | ALMOST_SCHEMA.map(json.dumps) | st.text()},
    optional={
        "schemaType": JSON | st.just("AVRO"),
        "references": JSON,
        "metadata": JSON,
        "ruleSet": JSON,
        "id": JSON,
        "version": JSON,
        "compatibility": JSON,
    },
)
BODIES = st.binary(max_size=200) | (JSON | ALMOST_BODY).map(lambda body: json.dumps(body).encode())
SEGMENT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    route=st.sampled_from(
        [
            ("POST", "/subjects/{}"),
            ("POST", "/subjects/{}/versions"),
            ("POST", "/compatibility/subjects/{}/versions"),
            ("POST", "/compatibility/subjects/{}/versions/{}"),
            ("PUT", "/config"),
            ("PUT", "/config/{}"),
            ("GET", "/subjects/{}/versions/{}"),
            ("GET", "/schemas/ids/{}"),
            ("GET", "/schemas/ids/{}/versions"),
            ("GET", "/config/{}?defaultToGlobal={}"),
            ("GET", "/subjects?subjectPrefix={}"),
            ("PATCH", "/{}/{}"),
        ]
    ),
    segments=st.tuples(SEGMENT, SEGMENT),
    body=BODIES,
)
def test_junk_is_answered_with_a_reason_and_never_with_a_fault(
    client: httpx.Client, route: tuple[str, str], segments: tuple[str, str], body: bytes
) -> None:
    method, path = route
    encoded = ["".join(f"%{byte:02X}" for byte in segment.encode()) for segment in segments]
    answer = client.request(method, path.format(*encoded), content=body)
    assert answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/vnd.schemaregistry.v1+json"
    if answer.status_code >= 400:
        assert answer.json().keys() == {"error_code", "message"}
        assert len(answer.content) < 3_000
