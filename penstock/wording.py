"""Words for people that depend on a number."""

__all__ = ["counted"]


def counted(count: int, noun: str) -> str:
    """`counted(1, "event")` is "1 event", `counted(1200, "event")` is "1,200 events"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
