"""What a person should do about each way in which a delivery can fail."""

from typing import NamedTuple


class Advice(NamedTuple):
    """`retriable`: the same event may go through later. `maybe_stored`: Kafka may hold it all the same."""

    text: str
    retriable: bool
    maybe_stored: bool


_TIMED_OUT = Advice(
    "No broker took it within delivery_timeout: check the address, TLS and login, and that enough replicas "
    "are in "
    "sync; then emit the same event again.",
    retriable=True,
    maybe_stored=True,
)
_NO_TOPIC = Advice(
    "Create the topic (`penstock load` and `penstock emit` do; Kafka's own tools too) and emit the event "
    "again.",
    retriable=True,
    maybe_stored=False,
)
_TOO_LARGE = Advice(
    "The topic's max.message.bytes is smaller than max_event_bytes: raise it, or make the event smaller.",
    retriable=False,
    maybe_stored=False,
)
_DENIED = Advice(
    "Give this login the ACL Write on the topic (IdempotentWrite on clusters before Kafka 3.0).",
    retriable=False,
    maybe_stored=False,
)
_GIVEN_UP = Advice(
    "The producer was closed before Kafka answered: close later, with a longer close_timeout, or emit it "
    "again.",
    retriable=True,
    maybe_stored=True,
)
_REPLICAS = Advice(
    "Too few replicas are in sync: bring the brokers back, then emit the same event again.",
    retriable=True,
    maybe_stored=True,
)
_FATAL = Advice(
    "The client cannot go on: close this producer, make a new one and emit the event again.",
    retriable=True,
    maybe_stored=True,
)
_OTHER = Advice(
    "Look up the code in librdkafka's documentation; the event may be emitted again as it is.",
    retriable=True,
    maybe_stored=True,
)
_BY_NAME = {
    "_MSG_TIMED_OUT": _TIMED_OUT,
    "_TIMED_OUT": _TIMED_OUT,
    "REQUEST_TIMED_OUT": _TIMED_OUT,
    "_TRANSPORT": _TIMED_OUT,
    "UNKNOWN_TOPIC_OR_PART": _NO_TOPIC,
    "_UNKNOWN_TOPIC": _NO_TOPIC,
    "_UNKNOWN_PARTITION": _NO_TOPIC,
    "MSG_SIZE_TOO_LARGE": _TOO_LARGE,
    "RECORD_LIST_TOO_LARGE": _TOO_LARGE,
    "TOPIC_AUTHORIZATION_FAILED": _DENIED,
    "CLUSTER_AUTHORIZATION_FAILED": _DENIED,
    "_PURGE_QUEUE": _GIVEN_UP._replace(maybe_stored=False),
    "_PURGE_INFLIGHT": _GIVEN_UP,
    "NOT_ENOUGH_REPLICAS": _REPLICAS._replace(maybe_stored=False),
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": _REPLICAS,
    "_FATAL": _FATAL,
}


def advice_for(name: str) -> Advice:
    """The advice for librdkafka's error `name`."""
    return _BY_NAME.get(name, _OTHER)
