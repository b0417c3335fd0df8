"""The one place where an exception becomes a message on stderr and an exit code."""

import errno
import importlib
import re
import sys
import textwrap
import traceback
from collections.abc import Iterator

import typer

from penstock.cli.exit_codes import ExitCode
from penstock.errors import PenstockError
from penstock.redaction import redact

__all__ = ["CODES", "exit_code_of", "report"]

# By name: `penstock --version` should not import four distributions to learn that all is well.
# The first match decides: a root comes after the kinds below it that have a code of their own.
CODES: dict[str, ExitCode] = {
    "penstock_schemas.errors.RegistryUnavailable": ExitCode.UNAVAILABLE,
    "penstock_schemas.errors.RegistryRefused": ExitCode.REFUSED,
    "penstock_schemas.errors.InvalidEvent": ExitCode.DATA,
    "penstock_schemas.errors.CatalogueError": ExitCode.DATA,
    "penstock_schemas.errors.DecodeError": ExitCode.DATA,
    "penstock_schemas.errors.SchemasError": ExitCode.FAILED,
    "penstock_producer.errors.InvalidSettings": ExitCode.CONFIG,
    "penstock_producer.errors.EventTooLarge": ExitCode.DATA,
    "penstock_producer.errors.BufferFull": ExitCode.UNAVAILABLE,
    "penstock_producer.errors.RegistryTimedOut": ExitCode.UNAVAILABLE,
    "penstock_producer.errors.DeliveryFailed": ExitCode.UNAVAILABLE,
    "penstock_producer.errors.NotDelivered": ExitCode.UNAVAILABLE,
    "penstock_producer.errors.ProducerError": ExitCode.FAILED,
    "penstock.replay.span.SpanError": ExitCode.USAGE,
    "penstock_store.errors.InvalidDsn": ExitCode.CONFIG,
    "penstock_store.read_errors.InvalidQuery": ExitCode.USAGE,
    "penstock_store.read_errors.StoreUnavailable": ExitCode.UNAVAILABLE,
    "penstock_store.read_errors.StoreRefused": ExitCode.REFUSED,
    "penstock_store.errors.SinkUnavailable": ExitCode.UNAVAILABLE,
    "penstock_store.errors.MigrationError": ExitCode.REFUSED,
    "penstock_store.errors.SinkBroken": ExitCode.REFUSED,
    "penstock_store.errors.TopicRecreated": ExitCode.LOSS,
    "penstock_store.checkpoint_errors.CheckpointHeld": ExitCode.UNAVAILABLE,
    "penstock_store.checkpoint_errors.InvalidProjection": ExitCode.USAGE,
    "penstock_store.store_errors.CorruptedEvents": ExitCode.DATA,
    "penstock_store.store_errors.InvalidSettings": ExitCode.CONFIG,
    "penstock_store.store_errors.StoreLocked": ExitCode.UNAVAILABLE,
    "penstock_store.store_errors.UnknownBackend": ExitCode.USAGE,
    "penstock_store.errors.StoreError": ExitCode.FAILED,
    "penstock_consumer.errors.Unavailable": ExitCode.UNAVAILABLE,
    "penstock_consumer.errors.SourceFailed": ExitCode.REFUSED,
    "penstock_consumer.errors.ReplayTakenOver": ExitCode.FAILED,
    "penstock_consumer.errors.SinkFailed": ExitCode.REFUSED,
    "penstock_consumer.errors.DeadLettersRefused": ExitCode.REFUSED,
    "penstock_consumer.errors.TopicMismatch": ExitCode.REFUSED,
    "penstock_consumer.errors.ConsumerError": ExitCode.FAILED,
    # What a library let through: still no fault of ours where a server is away or says no.
    "asyncpg.InvalidAuthorizationSpecificationError": ExitCode.REFUSED,
    "asyncpg.InsufficientPrivilegeError": ExitCode.REFUSED,
    "asyncpg.UndefinedTableError": ExitCode.REFUSED,
    "asyncpg.InvalidCatalogNameError": ExitCode.REFUSED,
    "asyncpg.PostgresConnectionError": ExitCode.UNAVAILABLE,
    "asyncpg.CannotConnectNowError": ExitCode.UNAVAILABLE,
    "confluent_kafka.KafkaException": ExitCode.UNAVAILABLE,
    "builtins.TimeoutError": ExitCode.UNAVAILABLE,
    "builtins.ConnectionError": ExitCode.UNAVAILABLE,
    "builtins.FileNotFoundError": ExitCode.DATA,
    "builtins.PermissionError": ExitCode.DATA,
    "builtins.IsADirectoryError": ExitCode.DATA,
}
# A root that wraps one of these says only that a server did not answer.
_AWAY = (TimeoutError, ConnectionError)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_BUILT_IN = re.compile(r"(?<![\w.-])localhost:(9092|5432|8081)(?!\d)")


def exit_code_of(error: BaseException) -> ExitCode:
    """The documented code for `error`; `INTERNAL` for what nobody foresaw."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, PenstockError):
        return error.exit_code
    if _setting_refused(error) is not None:
        return ExitCode.CONFIG
    code = next((code for kind, code in _known() if isinstance(error, kind)), ExitCode.INTERNAL)
    if code is ExitCode.INTERNAL and _of_a_file(error):
        return ExitCode.DATA
    if code is ExitCode.UNAVAILABLE and _of_a_file(error.__cause__):
        return ExitCode.DATA
    if code in (ExitCode.FAILED, ExitCode.REFUSED) and isinstance(error.__cause__, _AWAY):
        return ExitCode.UNAVAILABLE
    return code


def report(error: BaseException) -> ExitCode:
    """Write `error` to stderr, without a traceback where it was foreseeable, and return its exit code."""
    code = exit_code_of(error)
    if code is ExitCode.INTERRUPTED:
        text = "Interrupted."
    elif code is ExitCode.INTERNAL:
        trace = redact("".join(traceback.format_exception(error)))
        text = f"{trace}This is a fault in Penstock itself. Please report it with the lines above."
    else:
        said = redact(_said(error)) or type(error).__name__
        said += _hint(said) if code is ExitCode.UNAVAILABLE else ""
        text = "\n".join(_wrapped(line) for line in f"Error: {said}".splitlines())
    typer.echo(text, err=True)
    return code


def _said(error: BaseException) -> str:
    if (refused := _setting_refused(error)) is not None:
        return (
            f"librdkafka refuses the Kafka settings: {refused}. Correct kafka_config in penstock.toml, or "
            "PENSTOCK_KAFKA_CONFIG; penstock config show says which holds."
        )
    if isinstance(error, OSError) and _of_a_file(error):
        where = "The output" if error.filename is None else error.filename
        advice = "Make room" if error.errno in _FULL else "Choose another place"
        return f"{where} cannot be read or written: {error.strerror}. {advice}, then run it again."
    return str(error).strip()


def _of_a_file(error: BaseException | None) -> bool:
    """Or of what stdout leads to. A socket's errors, also of one in the file system, bear no name."""
    return isinstance(error, OSError) and (
        error.filename is not None or error.errno in _FULL or error.errno == errno.EIO
    )


def _setting_refused(error: BaseException | None) -> str | None:
    """librdkafka's words for a setting it does not know or take, whoever wrapped them."""
    while error is not None:
        fault = error.args[0] if error.args else None
        if type(error).__name__ == "KafkaException" and getattr(fault, "name", str)() == "_INVALID_ARG":
            return str(fault.str())  # type: ignore[union-attr]
        error = error.__cause__
    return None


def _hint(said: str) -> str:
    """Who did not name a server, and has no stack running, hardly meant the default address."""
    found = _BUILT_IN.search(said)
    if found is None or "penstock up" in said:
        return ""
    return (
        f"\n{found[0]} is the built-in default address. Start servers here with `penstock up`, or name yours."
    )


def _wrapped(line: str) -> str:
    """Indented lines are a log's end or a list of what to do: they stay as they are."""
    if line.startswith(" "):
        return line
    return textwrap.fill(line, width=100, break_long_words=False, break_on_hyphens=False)


def _known() -> Iterator[tuple[type[BaseException], ExitCode]]:
    """Classes of modules that are imported already: no other module can have raised its error."""
    for name, code in CODES.items():
        module, _, attribute = name.rpartition(".")
        if module in sys.modules:
            yield getattr(importlib.import_module(module), attribute), code
