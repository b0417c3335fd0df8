"""Structured logs on stderr: JSON lines, or coloured lines on a terminal; secrets masked in both."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

from penstock.redaction import redact

__all__ = ["LogFormat", "LogLevel", "configure_logging"]

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

_NOISY = ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "asyncio", "alembic")


def configure_logging(
    log_format: LogFormat = "auto", level: LogLevel = "info", stream: TextIO | None = None
) -> None:
    """Send structlog and the standard library's loggers through one formatter; safe to call again.

    `auto` writes for people where `stream` (default stderr) is a terminal, else JSON.
    """
    out = sys.stderr if stream is None else stream
    for_people = log_format == "console" or (log_format == "auto" and out.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter(), *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_ending(for_people, out)],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _ending(for_people: bool, out: TextIO) -> list[structlog.typing.Processor]:
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(default=str)
    if for_people:
        # Plain tracebacks: pretty ones show local variables, and these hold passwords.
        renderer = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), pad_event_to=40, exception_formatter=structlog.dev.plain_traceback
        )
    return [structlog.processors.format_exc_info, _mask, renderer]


def _mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = redact(value)
        elif not isinstance(value, int | float | tuple | type(None)):
            event[key] = redact(str(value))
    return event
