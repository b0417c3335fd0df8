"""One line to one event."""

import json
import re
from typing import Any

import orjson
from pydantic import ValidationError

from penstock_schemas import Event, InvalidEvent
from penstock_schemas.cloudevents import event_from_cloudevent

__all__ = ["NotAnEvent", "event_of_line"]

# orjson turns an integer beyond 64 bits into a float; nineteen digits are where that may begin.
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_SHOWN = 200


class NotAnEvent(ValueError):
    """A line that is not a CloudEvents 1.0 JSON object; the text is the reason."""


def event_of_line(data: bytes) -> Event:
    """The event that a line of CloudEvents 1.0 JSON says. Raises `NotAnEvent`."""
    parsed = _json(data)
    if not isinstance(parsed, dict):
        raise NotAnEvent(f"the line is JSON, but {_kind(parsed)} and not an object")
    try:
        return event_from_cloudevent(parsed)
    except InvalidEvent as error:
        raise NotAnEvent(_short(str(error))) from None
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        said = "; ".join(f"{'.'.join(map(str, f['loc'])) or 'event'}: {f['msg']}" for f in faults)
        raise NotAnEvent(_short(said)) from None


def _json(data: bytes) -> Any:
    try:
        if _LONG_NUMBER.search(data) is None:
            return orjson.loads(data)
        return json.loads(data, parse_constant=_refuse)
    except json.JSONDecodeError as error:  # orjson's too
        if "UTF-8" in error.msg:
            raise NotAnEvent("the line is not text in UTF-8") from None
        raise NotAnEvent(f"the line is not JSON: {error.msg} (at character {error.pos + 1})") from None
    except UnicodeDecodeError as error:
        raise NotAnEvent(f"the line is not text in UTF-8 (byte {error.start + 1})") from None
    except RecursionError:
        raise NotAnEvent("the line's JSON is nested too deeply") from None
    except ValueError as error:  # also Python's bound on the digits of one integer
        raise NotAnEvent(f"the line is not JSON: {_short(str(error))}") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds: dict[type, str] = {list: "an array", str: "a string", bool: "a boolean"}
    return kinds.get(type(value), "a number")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
