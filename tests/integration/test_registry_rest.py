"""The registry's REST, question by question: what Confluent's clients ask, and the codes they act on."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr

from fixtures.databases import Database
from penstock.registry.app import create_app
from penstock.registry.options import RegistryOptions

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"


def _record(*fields: dict[str, Any], name: str = "t.Order") -> str:
    return json.dumps({"type": "record", "name": name, "fields": list(fields)})


V1 = _record({"name": "id", "type": "string"})
V2 = _record({"name": "id", "type": "string"}, {"name": "note", "type": ["null", "string"], "default": None})
BREAKING = _record(
    {"name": "id", "type": "string"}, {"name": "sum", "type": "long"}
)  # the new field has no default


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async for client in _client(RegistryOptions(database_url=SecretStr(database.registry_url))):
        yield client


async def _client(options: RegistryOptions) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(options)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://registry") as client,
    ):
        yield client


async def _register(client: httpx.AsyncClient, subject: str, schema: str, **more: Any) -> httpx.Response:
    return await client.post(f"/subjects/{quote(subject, safe='')}/versions", json={"schema": schema, **more})


def _refused(answer: httpx.Response, status: int, code: int) -> str:
    body = answer.json()
    assert (answer.status_code, body["error_code"]) == (status, code), body
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert body.keys() == {"error_code", "message"}
    return str(body["message"])


async def test_a_schema_registered_can_be_found_in_every_way(client: httpx.AsyncClient) -> None:
    answer = await _register(client, "orders-value", V1)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == MEDIA_TYPE
    schema_id = answer.json()["id"]
    version = {"subject": "orders-value", "version": 1, "id": schema_id, "schema": V1}

    assert (await client.post("/subjects/orders-value", json={"schema": V1})).json() == version
    for path in ("1", "latest", "-1"):
        assert (await client.get(f"/subjects/orders-value/versions/{path}")).json() == version
    assert (await client.get("/subjects/orders-value/versions/1/schema")).text == V1
    assert (await client.get(f"/schemas/ids/{schema_id}")).json() == {"schema": V1}
    assert (await client.get(f"/schemas/ids/{schema_id}/schema")).text == V1
    assert (await client.get(f"/schemas/ids/{schema_id}/subjects")).json() == ["orders-value"]
    assert (await client.get(f"/schemas/ids/{schema_id}/versions")).json() == [
        {"subject": "orders-value", "version": 1}
    ]
    assert (await client.get("/subjects/orders-value/versions")).json() == [1]
    assert (await client.get("/subjects")).json() == ["orders-value"]


async def test_registering_again_changes_nothing(client: httpx.AsyncClient) -> None:
    first = (await _register(client, "s", V1)).json()
    reprinted = json.dumps(json.loads(V1), indent=2, sort_keys=True)
    assert (await _register(client, "s", reprinted)).json() == first
    assert (await client.get("/subjects/s/versions")).json() == [1]
    assert (await client.get("/subjects/s/versions/1")).json()["schema"] == V1


async def test_a_schema_has_one_id_under_every_subject(client: httpx.AsyncClient) -> None:
    ids = {(await _register(client, subject, V1)).json()["id"] for subject in ("b", "a", "c")}
    assert len(ids) == 1
    uses = (await client.get(f"/schemas/ids/{ids.pop()}/versions")).json()
    assert uses == [{"subject": subject, "version": 1} for subject in ("a", "b", "c")]


async def test_versions_count_up_per_subject(client: httpx.AsyncClient) -> None:
    for subject in ("one", "two"):
        await _register(client, subject, V1)
    await _register(client, "one", V2)
    assert (await client.get("/subjects/one/versions")).json() == [1, 2]
    assert (await client.get("/subjects/one/versions/latest")).json()["schema"] == V2
    assert (await client.get("/subjects/two/versions")).json() == [1]


async def test_subjects_can_be_listed_by_prefix(client: httpx.AsyncClient) -> None:
    for subject in ("orders-value", "orders-key", "payments-value", "a%b"):
        await _register(client, subject, V1)
    assert (await client.get("/subjects", params={"subjectPrefix": "orders-"})).json() == [
        "orders-key",
        "orders-value",
    ]
    assert (await client.get("/subjects", params={"subjectPrefix": "a%"})).json() == ["a%b"]
    assert (await client.get("/subjects", params={"subjectPrefix": "\0"})).json() == []


@pytest.mark.parametrize(
    "subject", ["a/b", "größe ☃", "a%2Fb", "x?y#z", "versions", "a/versions/1", "k" * 1024]
)
async def test_any_printable_name_is_a_subject(client: httpx.AsyncClient, subject: str) -> None:
    assert (await _register(client, subject, V1)).status_code == 200
    assert (await client.get("/subjects")).json() == [subject]
    found = await client.get(f"/subjects/{quote(subject, safe='')}/versions/1")
    assert found.json()["subject"] == subject


@pytest.mark.parametrize("subject", ["%00", "a%0Ab", "%ff", "%20%7F", "k" * 1025])
async def test_names_that_a_log_or_an_index_cannot_hold_are_refused(
    client: httpx.AsyncClient, subject: str
) -> None:
    _refused(await client.post(f"/subjects/{subject}/versions", json={"schema": V1}), 422, 42208)


async def test_what_is_not_there_is_told_apart(client: httpx.AsyncClient) -> None:
    await _register(client, "s", V1)
    _refused(await client.get("/subjects/none/versions"), 404, 40401)
    _refused(await client.get("/subjects/none/versions/1"), 404, 40401)
    _refused(await client.get("/subjects/none/versions/latest"), 404, 40401)
    _refused(await client.post("/subjects/none", json={"schema": V1}), 404, 40401)
    _refused(await client.get("/subjects/s/versions/2"), 404, 40402)
    _refused(await client.post("/subjects/s", json={"schema": V2}), 404, 40403)
    for schema_id in ("999999", "0", "-1", "2147483648", "x"):
        _refused(await client.get(f"/schemas/ids/{schema_id}"), 404, 40403)
        _refused(await client.get(f"/schemas/ids/{schema_id}/versions"), 404, 40403)
        _refused(await client.get(f"/schemas/ids/{schema_id}/subjects"), 404, 40403)
    _refused(await client.get("/nothing/here"), 404, 404)


@pytest.mark.parametrize("version", ["0", "-2", "2147483648", "x", "1.0", "٣", "99999999999999999999"])
async def test_a_version_that_is_none_is_refused(client: httpx.AsyncClient, version: str) -> None:
    _refused(await client.get(f"/subjects/s/versions/{version}"), 422, 42202)


async def test_the_default_level_is_backward(client: httpx.AsyncClient) -> None:
    assert (await client.get("/config")).json() == {"compatibilityLevel": "BACKWARD"}
    await _register(client, "s", V1)
    message = _refused(await _register(client, "s", BREAKING), 409, 409)
    assert "sum" in message
    assert '"s"' in message
    assert (await client.get("/subjects/s/versions")).json() == [1]
    _refused(await client.post("/subjects/s", json={"schema": BREAKING}), 404, 40403)
    assert (await _register(client, "other", BREAKING)).status_code == 200


async def test_a_level_of_a_subject_wins_over_the_global_one(client: httpx.AsyncClient) -> None:
    _refused(await client.get("/config/s"), 404, 40408)
    assert (await client.put("/config/s", json={"compatibility": "none"})).json() == {"compatibility": "NONE"}
    assert (await client.get("/config/s")).json() == {"compatibilityLevel": "NONE"}
    assert (await client.put("/config", json={"compatibility": "FULL"})).json() == {"compatibility": "FULL"}
    assert (await client.get("/config")).json() == {"compatibilityLevel": "FULL"}
    assert (await client.get("/config/z?defaultToGlobal=true")).json() == {"compatibilityLevel": "FULL"}
    assert (await client.get("/config/s?defaultToGlobal=true")).json() == {"compatibilityLevel": "NONE"}
    for subject in ("s", "z"):
        await _register(client, subject, V1)
    assert (await _register(client, "s", BREAKING)).status_code == 200
    _refused(await _register(client, "z", BREAKING), 409, 409)


@pytest.mark.parametrize(
    "body", [{}, {"compatibility": "SIDEWAYS"}, {"compatibility": None}, {"compatibility": ["FULL"]}]
)
async def test_a_level_that_is_none_is_refused(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    message = _refused(await client.put("/config", json=body), 422, 42203)
    assert "BACKWARD_TRANSITIVE" in message
    _refused(await client.put("/config/s", json=body), 422, 42203)


WITHOUT_NOTE, WITH_NOTE = V1, V2
WITH_NUMBER = _record({"name": "id", "type": "string"}, {"name": "note", "type": "int", "default": 0})


@pytest.mark.parametrize(
    ("level", "last_is_allowed"),
    [
        ("BACKWARD", True),
        ("BACKWARD_TRANSITIVE", False),
        ("FORWARD", True),
        ("FORWARD_TRANSITIVE", False),
        ("FULL", True),
        ("FULL_TRANSITIVE", False),
        ("NONE", True),
    ],
)
async def test_transitive_levels_look_at_every_version(
    client: httpx.AsyncClient, level: str, last_is_allowed: bool
) -> None:
    """A field goes and comes back with another type: fine for its neighbour, not for the first version."""
    await client.put("/config/s", json={"compatibility": level})
    for schema in (WITH_NOTE, WITHOUT_NOTE):
        assert (await _register(client, "s", schema)).status_code == 200
    tested = (await client.post("/compatibility/subjects/s/versions", json={"schema": WITH_NUMBER})).json()
    assert tested == {"is_compatible": last_is_allowed}
    assert (await _register(client, "s", WITH_NUMBER)).status_code == (200 if last_is_allowed else 409)


async def test_compatibility_can_be_asked_for_without_registering(client: httpx.AsyncClient) -> None:
    await _register(client, "s", V1)
    for path in ("/compatibility/subjects/s/versions/1", "/compatibility/subjects/s/versions/latest"):
        assert (await client.post(path, json={"schema": V2})).json() == {"is_compatible": True}
        assert (await client.post(path, json={"schema": BREAKING})).json() == {"is_compatible": False}
        told = (await client.post(f"{path}?verbose=true", json={"schema": BREAKING})).json()
        assert told["is_compatible"] is False
        assert any("version 1" in message and "sum" in message for message in told["messages"])
    assert (
        await client.post("/compatibility/subjects/none/versions/latest", json={"schema": V1})
    ).json() == {"is_compatible": True}
    _refused(await client.post("/compatibility/subjects/none/versions/1", json={"schema": V1}), 404, 40401)
    _refused(await client.post("/compatibility/subjects/s/versions/9", json={"schema": V1}), 404, 40402)
    assert (await client.get("/subjects/s/versions")).json() == [1]


async def test_what_would_change_a_schemas_meaning_is_refused_rather_than_ignored(
    client: httpx.AsyncClient,
) -> None:
    assert "AVRO" in _refused(await _register(client, "s", "{}", schemaType="JSON"), 422, 42201)
    assert "PROTOBUF" in _refused(await _register(client, "s", "", schemaType="PROTOBUF"), 422, 42201)
    reference = {"name": "x", "subject": "y", "version": 1}
    assert "references" in _refused(await _register(client, "s", V1, references=[reference]), 422, 42201)
    assert "ruleSet" in _refused(await _register(client, "s", V1, ruleSet={"domainRules": [{}]}), 422, 42201)
    _refused(await _register(client, "s", V1, id=7), 422, 42205)
    _refused(await _register(client, "s", V1, version=7), 422, 42205)
    assert (await client.get("/subjects")).json() == []
    plain = {
        "schemaType": "AVRO",
        "references": [],
        "metadata": None,
        "ruleSet": None,
        "id": -1,
        "version": 0,
    }
    assert (await _register(client, "s", V1, **plain)).status_code == 200


async def test_parameters_that_change_nothing_here_are_tolerated(client: httpx.AsyncClient) -> None:
    answer = await client.post("/subjects/s/versions?normalize=True", json={"schema": V1})
    schema_id = answer.json()["id"]
    assert (
        await client.post("/subjects/s?normalize=False&deleted=True", json={"schema": V1})
    ).status_code == 200
    assert (await client.get(f"/schemas/ids/{schema_id}?fetchMaxId=false&subject=s")).json() == {"schema": V1}


@pytest.mark.parametrize("content_type", [MEDIA_TYPE, "application/json", "application/octet-stream", None])
async def test_any_content_type_is_read_as_json(client: httpx.AsyncClient, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    body = json.dumps({"schema": V1}).encode()
    assert (await client.post("/subjects/s/versions", content=body, headers=headers)).status_code == 200


async def test_the_small_questions(client: httpx.AsyncClient) -> None:
    assert (await client.get("/")).json() == {}
    assert (await client.get("/schemas/types")).json() == ["AVRO"]
    _refused(await client.delete("/subjects/s"), 405, 405)


async def test_probes_and_metrics(client: httpx.AsyncClient) -> None:
    await _register(client, "a-subject-of-a-client", V1)
    await client.get("/subjects/none/versions")
    await client.get("/nowhere")
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).status_code == 200
    text = (await client.get("/metrics")).text
    assert 'penstock_registry_requests_total{route="/subjects/{subject}/versions",status="200"} 1.0' in text
    assert 'penstock_registry_requests_total{route="/subjects/{subject}/versions",status="404"} 1.0' in text
    assert "penstock_registry_schemas 1.0" in text
    assert "a-subject-of-a-client" not in text  # labels that clients choose would grow without bound
    assert "nowhere" not in text


async def test_a_body_over_the_limit_is_refused(database: Database) -> None:
    options = RegistryOptions(database_url=SecretStr(database.registry_url), max_body_bytes=1024)
    async for client in _client(options):
        _refused(await client.post("/subjects/s/versions", content=b" " * 1025), 413, 41301)
        _refused(await client.put("/config", content=b" " * 1024 + b"{}"), 413, 41301)


async def test_credentials_are_demanded_where_the_options_name_some(database: Database) -> None:
    options = RegistryOptions(
        database_url=SecretStr(database.registry_url), user="penstock", password=SecretStr("pässword")
    )
    async for client in _client(options):
        answer = await client.get("/subjects")
        message = _refused(answer, 401, 401)
        assert "pässword" not in message
        assert answer.headers["www-authenticate"].startswith("Basic ")
        for wrong in (
            "Basic",
            "Basic !",
            "Bearer x",
            "Basic " + base64.b64encode(b"penstock:other").decode(),
        ):
            _refused(await client.get("/subjects", headers={"authorization": wrong}), 401, 401)
        right = "Basic " + base64.b64encode("penstock:pässword".encode()).decode()
        assert (await client.get("/subjects", headers={"authorization": right})).json() == []
        for probe in ("/livez", "/readyz", "/metrics"):
            assert (await client.get(probe)).status_code == 200


def test_half_of_a_login_is_no_login() -> None:
    for half in ({"user": "u"}, {"password": SecretStr("p")}, {"user": "a:b", "password": SecretStr("p")}):
        with pytest.raises(ValueError, match="basic authentication"):
            RegistryOptions(database_url=SecretStr("postgresql://h/d"), **half)
