"""Decoding in a process apart first: for a partition that was claimed again and again without progress, as
one of its records may end the process that decodes it.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from struct import Struct
from typing import IO

import structlog

from penstock_consumer.errors import RecordEndsProcess
from penstock_consumer.interfaces import RecordDecoder
from penstock_schemas.decoder import Decoder
from penstock_schemas.limits import DecodeLimits
from penstock_schemas.rows import Row

__all__ = ["TrialDecoder", "main"]

log = structlog.get_logger(__name__)

_START = 30.0  # seconds for the process to say that it is ready
_PATIENCE = 10.0  # seconds for one record: linear in its bytes, so far more than any needs
_HEADER = Struct(">cII")  # S a schema and its id, V a value; bytes that follow
_SCHEMA, _VALUE, _DONE = b"S", b"V", b"."


class TrialDecoder:
    """A `RecordDecoder` that tries each record in a child process before `decoder` sees it. Slow: about
    0.1 ms a record. Use from one thread at a time; `close` may be called at any time after.
    """

    def __init__(
        self,
        decoder: RecordDecoder,
        limits: DecodeLimits | None = None,
        *,
        command: Sequence[str] = (sys.executable, "-c", f"from {__name__} import main; main()"),
    ) -> None:
        self._decoder = decoder
        self._command = [*command, json.dumps(asdict(limits or DecodeLimits()))]
        self._schemas: dict[int, str] = {}
        self._child: subprocess.Popen[bytes] | None = None

    def add_schema(self, schema_id: int, schema_json: str) -> None:
        """See `RecordDecoder`."""
        self._schemas[schema_id] = schema_json
        self.close()  # the next one is told all schemas
        self._decoder.add_schema(schema_id, schema_json)

    def row(self, value: bytes) -> Row:
        """See `RecordDecoder`. Raises `RecordEndsProcess` where two processes, one after the other, did not
        survive the value: one may have been ended by somebody else.
        """
        if not self._survives(value) and not self._survives(value):
            raise RecordEndsProcess(
                "decoding this record ends the process, or does not come to an end; two were tried"
            )
        return self._decoder.row(value)

    def close(self) -> None:
        """End the child process."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            with suppress(OSError):  # what it did not read any more
                child.communicate()

    def _survives(self, value: bytes) -> bool:
        if self._child is None and not self._start():
            return True
        try:
            self._ask(_VALUE, 0, value, _PATIENCE)
        except (OSError, EOFError):
            self.close()
            return False
        return True

    def _start(self) -> bool:
        """Whether there is a process to try with; where there is none no record is at fault."""
        try:
            self._child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
            self._answer(_START)
            for schema_id, schema in self._schemas.items():
                self._ask(_SCHEMA, schema_id, schema.encode(), _PATIENCE)
        except (OSError, EOFError) as error:
            self.close()
            log.warning("no_trial", cause=f"{type(error).__name__}: {error}")
            return False
        return True

    def _ask(self, kind: bytes, number: int, body: bytes, seconds: float) -> None:
        assert self._child is not None  # noqa: S101  asked after the start
        assert self._child.stdin is not None  # noqa: S101  a pipe
        self._child.stdin.write(_HEADER.pack(kind, number, len(body)) + body)
        self._child.stdin.flush()
        self._answer(seconds)

    def _answer(self, seconds: float) -> None:
        assert self._child is not None  # noqa: S101  likewise
        assert self._child.stdout is not None  # noqa: S101  a pipe
        answers = self._child.stdout.fileno()
        if not select.select([answers], [], [], seconds)[0]:
            raise TimeoutError(f"no answer within {seconds:g} s")
        if os.read(answers, 1) != _DONE:
            raise EOFError("the process ended")


def _serve(questions: IO[bytes], answers: IO[bytes], limits: DecodeLimits) -> None:
    """The child: decode what comes, say that it is done, whatever came of it."""
    decoder = Decoder(limits)
    while True:
        answers.write(_DONE)
        answers.flush()
        header = questions.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return
        kind, number, size = _HEADER.unpack(header)
        body = questions.read(size)
        with suppress(Exception):
            if kind == _SCHEMA:
                decoder.add_schema(number, body.decode())
            else:
                decoder.row(body)


def main() -> None:
    """The child process."""
    # A terminal's and a supervisor's signals go to the whole group; this process ends with its parent's pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _serve(sys.stdin.buffer, sys.stdout.buffer, DecodeLimits(**json.loads(sys.argv[1])))
