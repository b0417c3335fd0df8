"""A Kafka broker of our own: KRaft, one node that is broker and controller, its jars cached."""

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from penstock.stack._lock import exclusive
from penstock.stack._ports import HOST
from penstock.stack._process import ProcessRecord, forget, spawn, terminate
from penstock.stack._readiness import kafka_answers, wait_ready
from penstock.stack._requirements import require_java, require_maven
from penstock.stack.errors import ServerStartError, StackError

__all__ = ["KafkaServer", "fetch_jars", "new_cluster_id"]

_POM: Final = Path(__file__).parent / "kafka" / "pom.xml"
_LOG4J: Final = Path(__file__).parent / "kafka" / "log4j2.properties"
_MAVEN_TIMEOUT_S: Final = 600
_FORMAT_TIMEOUT_S: Final = 60
_START_TIMEOUT_S: Final = 90
_STOP_GRACE_S: Final = 20.0
_HEAP: Final = "512m"

_PROPERTIES: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",  # 3 s by default: most of a worker's restart
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
}


@dataclass(frozen=True, kw_only=True)
class KafkaServer:
    """One broker's place and settings; `home` holds its data and its properties file."""

    home: Path
    log: Path
    port: int
    controller_port: int
    cluster_id: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to."""
        return f"{HOST}:{self.port}"

    def start(
        self, report: Callable[[str], None], spawned: Callable[[ProcessRecord], None] = forget
    ) -> ProcessRecord:
        """Fetch the jars and format the storage where that is still to be done, start, wait for an answer.

        `spawned` is told of the process before that wait, so that it can be ended whatever happens meanwhile.
        """
        java = require_java(report)
        jars = fetch_jars(report)
        self.home.mkdir(parents=True, exist_ok=True)
        properties = self.home / "server.properties"
        properties.write_text(self._properties(), encoding="utf-8")
        if not (self.home / "data" / "meta.properties").exists():
            report("formatting its storage")
            self._format(java, jars, properties)
        report("starting")
        argv = [*self._java(java, jars), f"-Xmx{_HEAP}", "kafka.Kafka", str(properties)]
        process = spawn(argv, log=self.log.with_suffix(".out"), cwd=self.home)
        spawned(process)
        report("waiting for an answer")
        try:
            wait_ready(
                lambda: kafka_answers(self.bootstrap_servers),
                server=f"Kafka (port {self.port})",
                process=process,
                logs=(self.log, self.log.with_suffix(".out")),
                timeout_s=_START_TIMEOUT_S,
            )
        except BaseException:
            self.stop(process)
            raise
        return process

    @staticmethod
    def stop(process: ProcessRecord) -> bool:
        """SIGTERM, which flushes and closes the logs, then SIGKILL."""
        return terminate(process, signals=(signal.SIGTERM,), grace_s=_STOP_GRACE_S)

    def wipe(self) -> None:
        """Remove the data."""
        shutil.rmtree(self.home, ignore_errors=True)

    def _properties(self) -> str:
        listener = f"PLAINTEXT://{self.bootstrap_servers}"
        merged = {
            **_PROPERTIES,
            "listeners": f"{listener},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": listener,
            "controller.quorum.voters": f"1@{HOST}:{self.controller_port}",
            "log.dirs": str(self.home / "data"),
            **self.settings,
        }
        return "".join(f"{name}={value}\n" for name, value in merged.items())

    def _java(self, java: Path, jars: Path) -> list[str]:
        return [
            str(java),
            "-Xms64m",
            "-XX:+UseSerialGC",  # one small heap: less memory and no GC threads
            f"-Dlog4j2.configurationFile={_LOG4J.as_uri()}",
            f"-Dpenstock.log={self.log}",
            "-cp",
            f"{jars}/*",
        ]

    def _format(self, java: Path, jars: Path, properties: Path) -> None:
        argv = [*self._java(java, jars), "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format"]
        argv += ["--cluster-id", self.cluster_id, "--config", str(properties)]
        try:
            done = subprocess.run(  # noqa: S603 - fixed program, no shell
                argv, cwd=self.home, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ServerStartError(
                f"Kafka's storage tool took over {_FORMAT_TIMEOUT_S} s for {self.home}."
            ) from error
        if done.returncode != 0:
            end = "\n".join(f"  | {line}" for line in (done.stdout + done.stderr).splitlines()[-15:])
            raise ServerStartError(f"Kafka's storage in {self.home} could not be formatted:\n{end}")


def new_cluster_id() -> str:
    """A random KRaft cluster id: a UUID in URL-safe base64, never starting with a dash (an option)."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        if not text.startswith("-"):
            return text


def fetch_jars(report: Callable[[str], None], *, cache: Path | None = None) -> Path:
    """The folder of the broker's jars, copied once per version by Maven; who comes second waits."""
    pom = _POM.read_bytes()
    root = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock"
    folder = root / f"kafka-{hashlib.sha256(pom).hexdigest()[:12]}"
    if folder.exists():
        return folder
    with exclusive(root / "kafka.lock", timeout_s=_MAVEN_TIMEOUT_S, what="fetching Kafka"):
        if folder.exists():
            return folder
        maven = require_maven(report)
        report("fetching its jars with Maven (43 MB, once)")
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        _copy_dependencies(maven, partial)
        partial.rename(folder)  # all or nothing: an interrupted copy never looks complete
    return folder


def _copy_dependencies(maven: Path, target: Path) -> None:
    argv = [str(maven), "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"]
    argv += ["-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_MAVEN_TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise StackError(
            f"Maven did not fetch Kafka's jars within {_MAVEN_TIMEOUT_S} s; is a repository reachable?"
        ) from error
    if done.returncode != 0:
        end = "\n".join(f"  | {line}" for line in (done.stdout + done.stderr).splitlines()[-10:])
        raise StackError(f"Maven could not fetch Kafka's jars (is a repository reachable?):\n{end}")
