"""A service that only emits: the producer's wheel in an environment of its own, and an event on a real
broker.
"""

import email
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from fixtures.stack import ROOT
from fixtures.topics import TopicFactory

pytestmark = pytest.mark.timeout(600)

FORBIDDEN = ("alembic", "asyncpg", "fastapi", "sqlalchemy", "uvicorn", "penstock", "penstock_store")
README = ROOT / "README.md"
INSTALL = re.compile(r"`pip install (.+?)`")
EMIT = """
import importlib.util, json, sys
from penstock_producer import Producer
from penstock_schemas import Event

kafka, topic, registry, *forbidden = sys.argv[1:]
with Producer(kafka, topic=topic, schema_registry_url=registry) as producer:
    placed = producer.emit(Event(event_type="order.placed", entity_id="42")).result(timeout=60)
found = [name for name in forbidden if importlib.util.find_spec(name)]
print(json.dumps({"offset": placed.offset, "topic": placed.topic, "found": found}))
"""


def run(*argv: str, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=500, check=False, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(argv[:4])} failed:\n{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def uv() -> str:
    return run(sys.executable, str(ROOT / ".ci" / "bootstrap_uv.py")).splitlines()[-1]


@pytest.fixture(scope="module")
def wheels(uv: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheels of penstock-producer and penstock-schemas, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheels")
    for package in ("penstock-schemas", "penstock-producer"):
        run(uv, "build", "--quiet", "--wheel", "--package", package, "--out-dir", str(folder), cwd=ROOT)
    return sorted(folder.glob("*.whl"))


def test_the_wheel_asks_for_two_distributions_only(wheels: list[Path]) -> None:
    wheel = next(path for path in wheels if path.name.startswith("penstock_producer"))
    with zipfile.ZipFile(wheel) as opened:
        name = next(n for n in opened.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(opened.read(name))
        assert "penstock_producer/py.typed" in opened.namelist()
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.match(r"[\w-]+", line)[0] for line in needed} == {"confluent-kafka", "penstock-schemas"}  # type: ignore[index]


def test_it_emits_from_a_bare_environment(
    uv: str, kafka: str, topic: TopicFactory, registry: str, tmp_path: Path
) -> None:
    name = topic()
    constraints = tmp_path / "constraints.txt"
    locked = run(
        uv, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-workspace", "--no-hashes",
        "--package", "penstock-producer", cwd=ROOT,
    )  # fmt: skip
    constraints.write_text(locked)
    run(uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(tmp_path / "bare"))
    python = str(tmp_path / "bare" / "bin" / "python")
    (places,) = set(INSTALL.findall(README.read_text()))  # what is written there is what is tried
    run(
        uv, "pip", "install", "--quiet", "--python", python,
        "--constraints", str(constraints), *places.split(), cwd=ROOT,
    )  # fmt: skip

    # -I: neither the working folder nor PYTHONPATH, so that only what was installed is found
    said = json.loads(run(python, "-I", "-c", EMIT, kafka, name, registry, *FORBIDDEN, cwd=tmp_path))
    assert said == {"offset": 0, "topic": name, "found": []}

    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "t"})
    try:
        consumer.assign([TopicPartition(name, 0, 0)])
        message = consumer.poll(30)
        assert message is not None
        assert message.key() == b"42"
    finally:
        consumer.close()
