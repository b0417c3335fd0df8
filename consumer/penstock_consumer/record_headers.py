"""A record's headers, whatever they hold."""

from operator import methodcaller
from typing import cast

from confluent_kafka import Message

from penstock_consumer.interfaces import Record

__all__ = ["UNREADABLE", "Headers", "read_headers"]

Headers = list[tuple[str, bytes | None]]

UNREADABLE = "penstock.dead_letter.headers"
"""Header of a record, and of its dead letter, in place of those that could not be read."""

_ask_headers = methodcaller("headers")
"""Always checks what comes back: Python's own calls, once they are specialised, overlook a pending error."""


def read_headers(record: Record) -> Headers:
    """All headers of a record; of one with a name that is not UTF-8, `UNREADABLE` alone.

    There confluent-kafka returns a broken object with an error pending, and another one without when it is
    asked again: to touch either may end the process. So it is given what to say from then on.
    """
    try:
        return list(_ask_headers(record) or ())
    except SystemError:
        cast("Message", record).set_headers([(UNREADABLE, b"unreadable")])
        return [(UNREADABLE, b"unreadable")]
