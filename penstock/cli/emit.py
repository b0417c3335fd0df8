"""`penstock emit`: one event from the command line. `penstock load` is mounted here too."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.load import load
from penstock.cli.options import JsonOption, KafkaOption, RegistryOption, StackOption
from penstock.errors import InputError
from penstock.settings import Settings, load_settings

if TYPE_CHECKING:
    from penstock_producer import Delivered
    from penstock_schemas import Event

__all__ = ["register"]

_WHO = "Who, and as part of what"
_SENDING = "Sending"


def register(app: typer.Typer) -> None:
    """Mount `penstock emit` and `penstock load`."""
    app.command("emit")(_emit)
    app.command("load")(load)


ActorOption = Annotated[
    str | None,
    typer.Option("--actor", help="Who did it: an id, or TYPE:ID as in user:112.", rich_help_panel=_WHO),
]
CorrelationOption = Annotated[
    str | None,
    typer.Option(
        "--correlation", help="The process it is part of (default: the event id).", rich_help_panel=_WHO
    ),
]
CausationOption = Annotated[
    str | None,
    typer.Option("--causation", help="The event or command that caused it.", rich_help_panel=_WHO),
]
TenantOption = Annotated[
    str | None, typer.Option("--tenant", help="Whose it is (default: default).", rich_help_panel=_WHO)
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key", help="Kafka key, which decides the order (default: the entity).", rich_help_panel=_SENDING
    ),
]
IdempotencyOption = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        help="A key of your own: the same event emitted again is stored once (default: the event id).",
        rich_help_panel=_SENDING,
    ),
]
OccurredOption = Annotated[
    str | None, typer.Option("--occurred-at", help="RFC 3339 time with its zone (default: now).")
]
TopicOption = Annotated[
    str | None,
    typer.Option(
        "--topic", "-t", help="Topic (default: the first of the settings).", rich_help_panel=_SENDING
    ),
]


def _emit(
    event_type: Annotated[str, typer.Option("--type", help="What happened: order.placed")],
    entity: Annotated[str, typer.Option("--entity", help="What it happened to: an id.")],
    payload: Annotated[
        str, typer.Option("--payload", metavar="JSON|@FILE|-", help="A JSON object; - reads stdin.")
    ] = "{}",
    occurred_at: OccurredOption = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A label; repeat for several.")] = None,
    actor: ActorOption = None,
    correlation: CorrelationOption = None,
    causation: CausationOption = None,
    tenant: TenantOption = None,
    topic: TopicOption = None,
    key: KeyOption = None,
    idempotency_key: IdempotencyOption = None,
    as_json: JsonOption = False,
    kafka: KafkaOption = None,
    registry: RegistryOption = None,
    stack: StackOption = None,
) -> None:
    """Emit one event and say where Kafka keeps it. Makes the topic where it is missing."""
    actor_type, _, actor_id = (actor or "").rpartition(":")
    fields = {
        "event_type": event_type,
        "entity_id": entity,
        "payload": _payload(payload),
        "occurred_at": occurred_at,
        "actor_type": actor_type or None,
        "actor_id": actor_id or None,
        "correlation_id": correlation,
        "causation_id": causation,
        "tenant_id": tenant,
        "idempotency_key": idempotency_key,
        "metadata": {"tags": tag} if tag else None,
    }
    event = _event({name: value for name, value in fields.items() if value is not None})
    settings = load_settings(kafka_bootstrap_servers=kafka, schema_registry_url=registry, stack=stack)
    delivered = _deliver(settings, topic or settings.topics[0], event, key)
    typer.echo(_json(event, delivered) if as_json else _sentence(event, delivered))


def _deliver(settings: Settings, topic: str, event: "Event", key: str | None) -> "Delivered":
    from penstock.loading.servers import make_topic, producer_of

    make_topic(settings, topic, partial(typer.echo, err=True))
    with producer_of(settings, topic, linger=0.0, delivery_timeout=settings.timeout_seconds) as producer:
        return producer.emit(event, key=key).result()


def _payload(given: str) -> Any:
    """The JSON object that `--payload` names. Raises `InputError`."""
    try:
        if given == "-":
            text = sys.stdin.buffer.read()
        elif given.startswith("@"):
            text = Path(given[1:]).read_bytes()
        else:
            text = given.encode()
        value = json.loads(text)
    except OSError as error:
        raise InputError(f"--payload: {given[1:]} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"--payload is not JSON: {error}. Give an object, as '{{\"amount\": 5}}'.") from None
    if not isinstance(value, dict):
        raise InputError("--payload must be a JSON object, as '{\"amount\": 5}'.")
    return value


_OPTIONS = {
    "event_type": "--type",
    "entity_id": "--entity",
    "payload": "--payload",
    "occurred_at": "--occurred-at",
    "actor_type": "--actor",
    "actor_id": "--actor",
    "correlation_id": "--correlation",
    "causation_id": "--causation",
    "tenant_id": "--tenant",
    "idempotency_key": "--idempotency-key",
    "metadata": "--tag",
}


def _event(fields: dict[str, Any]) -> "Event":
    from pydantic import ValidationError

    from penstock_schemas import Event

    try:
        return Event(**fields)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        said = "; ".join(f"{_OPTIONS.get(str(f['loc'][0]), 'event')}: {_said(f['msg'])}" for f in faults)
        raise InputError(f"That is no event. {said}.") from None


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")


def _json(event: "Event", delivered: "Delivered") -> str:
    return json.dumps(
        {
            "event_id": str(event.event_id),
            "event_type": event.event_type,
            "entity_id": event.entity_id,
            "idempotency_key": event.idempotency_key,
            "topic": delivered.topic,
            "partition": delivered.partition,
            "offset": delivered.offset,
            "timestamp": None if delivered.timestamp is None else delivered.timestamp.isoformat(),
        },
        ensure_ascii=False,
    )


def _sentence(event: "Event", delivered: "Delivered") -> str:
    return (
        f"{event.event_type} of {event.entity_id} is in topic {delivered.topic}, partition "
        f"{delivered.partition}, "
        f"offset {delivered.offset} (event {event.event_id})"
    )
