"""Record headers: the caller's and the trace context's."""

from collections.abc import Mapping, Sequence

Headers = list[tuple[str, str | bytes | None]]
"""As librdkafka takes them; values here are always bytes."""
HeadersLike = Mapping[str, str | bytes] | Sequence[tuple[str, str | bytes]]


def merge_headers(given: HeadersLike | None, trace: Headers | None) -> Headers | None:
    """Both as librdkafka takes them; None for none. What the caller gave wins over the trace context.

    Raises `TypeError` for a name that is no text and a value that is neither text nor bytes, `ValueError` for
    a name that has no UTF-8: confluent-kafka would end the process at it.
    """
    if given is None:
        return trace
    pairs = given.items() if isinstance(given, Mapping) else given
    merged: Headers = [(_name(name), _bytes(name, value)) for name, value in pairs]
    if trace is not None:
        names = {name for name, _ in merged}
        merged.extend(pair for pair in trace if pair[0] not in names)
    return merged or None


def _name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a header's name is {name!r}; names are text")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the header name {name!r} holds half of a surrogate pair; give text") from None
    return name


def _bytes(name: str, value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise TypeError(f"header {name!r} is a {type(value).__name__}; headers are text or bytes")
