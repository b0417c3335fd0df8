"""W3C trace context of the current span, where OpenTelemetry is installed. It is never required."""

from collections.abc import Callable

from penstock_producer._headers import Headers


def trace_source() -> Callable[[], Headers | None] | None:
    """What returns `traceparent` and `tracestate` of the current span (None outside of one); None without
    OpenTelemetry.

    The W3C form whatever propagator the process is set to: it is what the readers of a topic have to agree
    on.
    """
    try:
        from opentelemetry.context import get_current
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        return None
    propagator = TraceContextTextMapPropagator()

    def current() -> Headers | None:
        if not get_current():  # nothing is current at all: 0.05 µs an event
            return None
        carrier: dict[str, str] = {}
        propagator.inject(carrier)
        return [(name, value.encode()) for name, value in carrier.items()] or None

    return current
