"""The registry client: what is poison, what is only a bad moment. The server is real HTTP, its answers are
scripted.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from penstock_schemas import DecodeError
from penstock_schemas.envelope import GENERIC_SCHEMA
from penstock_schemas.errors import (
    IncompatibleSchema,
    RegistryRefused,
    RegistryUnavailable,
    SchemasError,
    UnknownSchemaId,
    UnsupportedSchema,
)
from penstock_schemas.registry import AsyncSchemaSource, InMemoryRegistry, SchemaRegistry

Answer = tuple[int, str]
NOT_FOUND = json.dumps({"error_code": 40403, "message": "Schema not found"})


@contextmanager
def server(answer: Callable[[str, str], Answer]) -> Iterator[str]:
    """The address of a server that answers (method, path) as told."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = answer(self.command, self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = _answer  # noqa: N815 - the base class's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@contextmanager
def registry(answer: Callable[[str, str], Answer]) -> Iterator[SchemaRegistry]:
    with server(answer) as url:
        client = SchemaRegistry(url, timeout=5)
        try:
            yield client
        finally:
            client.close()


def test_schema_and_register() -> None:
    def answer(method: str, path: str) -> Answer:
        if method == "POST":
            assert path.startswith("/subjects/parcels-value/versions")
            return 200, json.dumps({"id": 12})
        assert path.startswith("/schemas/ids/7")
        return 200, json.dumps({"schema": GENERIC_SCHEMA})

    with registry(answer) as client:
        assert client.schema(7) == GENERIC_SCHEMA
        assert client.register("parcels-value", GENERIC_SCHEMA) == 12


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((404, NOT_FOUND), UnknownSchemaId),
        ((404, "<html>no such page</html>"), RegistryUnavailable),
        ((404, ""), RegistryUnavailable),
        ((200, "<html>please log in</html>"), RegistryUnavailable),
        ((200, "[]"), RegistryUnavailable),
        ((200, json.dumps({"schema": "{}", "schemaType": "PROTOBUF"})), UnsupportedSchema),
        (
            (
                200,
                json.dumps({"schema": "{}", "references": [{"name": "A", "subject": "a", "version": 1}]}),
            ),
            UnsupportedSchema,
        ),
        *[
            ((status, json.dumps({"error_code": code, "message": "…"})), RegistryUnavailable)
            for status, code in [
                (401, 40101),
                (403, 40301),
                (408, 408),
                (429, 42901),
                (500, 50001),
                (503, 50301),
            ]
        ],
        ((502, "<html>bad gateway</html>"), RegistryUnavailable),
    ],
)
def test_answers_to_a_look_up(answer: Answer, expected: type[SchemasError]) -> None:
    with registry(lambda method, path: answer) as client, pytest.raises(expected) as caught:
        client.schema(7)
    # What is not the registry's own "no" must never reach the dead-letter topic (#1325, #1334).
    assert isinstance(caught.value, DecodeError) is (expected is not RegistryUnavailable)
    assert "schema id 7" in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((409, json.dumps({"error_code": 409, "message": "field b lacks a default"})), IncompatibleSchema),
        ((422, json.dumps({"error_code": 42201, "message": "Invalid schema"})), RegistryRefused),
        ((422, "<html>teapot</html>"), RegistryUnavailable),
        ((403, json.dumps({"error_code": 40301, "message": "Forbidden"})), RegistryUnavailable),
        ((503, ""), RegistryUnavailable),
    ],
)
def test_answers_to_a_registration(answer: Answer, expected: type[SchemasError]) -> None:
    with registry(lambda method, path: answer) as client, pytest.raises(expected, match="parcels-value"):
        client.register("parcels-value", GENERIC_SCHEMA)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, json.dumps({"is_compatible": False})), False),
        ((200, json.dumps({"is_compatible": True})), True),
        ((404, json.dumps({"error_code": 40401, "message": "Subject not found."})), True),
    ],
)
def test_is_compatible(answer: Answer, expected: bool) -> None:
    with registry(lambda method, path: answer) as client:
        assert client.is_compatible("parcels-value", GENERIC_SCHEMA) is expected


def test_nobody_listens_and_no_secret_is_told() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        port = reserved.getsockname()[1]
        client = SchemaRegistry(f"http://reader:hunter2@127.0.0.1:{port}", timeout=5)
        with pytest.raises(RegistryUnavailable, match=f"127.0.0.1:{port} did not answer") as caught:
            client.schema(1)
        client.close()
    assert "hunter2" not in str(caught.value)


def test_silence_ends_at_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = SchemaRegistry(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.1)
        with pytest.raises(RegistryUnavailable, match="Timeout"):
            client.schema(1)
        client.close()


async def test_the_worker_waits_no_longer_than_the_deadline() -> None:
    release = threading.Event()

    class Stuck(InMemoryRegistry):
        def schema(self, schema_id: int) -> str:
            release.wait(30)
            return super().schema(schema_id)

    try:
        with pytest.raises(RegistryUnavailable, match=r"schema id 3 within 0\.05 s"):
            await AsyncSchemaSource(Stuck(), deadline=0.05).schema(3)
    finally:
        release.set()


async def test_async_source() -> None:
    memory = InMemoryRegistry()
    schema_id = memory.register("parcels-value", GENERIC_SCHEMA)
    source = AsyncSchemaSource(memory)
    assert await source.schema(schema_id) == GENERIC_SCHEMA
    with pytest.raises(UnknownSchemaId, match="schema id 99 is unknown to the registry in memory"):
        await source.schema(99)


def test_memory_behaves_as_a_server() -> None:
    memory = InMemoryRegistry()
    old = '{"type":"record","name":"P","fields":[{"name":"a","type":"int"}]}'
    new = '{"type":"record","name":"P","fields":[{"name":"a","type":"string"}]}'
    first = memory.register("s", old)
    assert memory.register("s", old) == memory.register("other", old) == first
    assert not memory.is_compatible("s", new)
    assert memory.is_compatible("fresh", new)
    with pytest.raises(IncompatibleSchema, match=r"not compatible with what s holds: .*/a: type mismatch"):
        memory.register("s", new)
    assert memory.register("fresh", new) != first
