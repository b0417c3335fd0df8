"""From words to offsets: what a span means in each partition, by what the broker has now."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from penstock.errors import InputError
from penstock.kafka_view import KafkaView, Topic
from penstock.replay.span import Edge, Point, Span

__all__ = ["Log", "resolve"]


class Log(NamedTuple):
    """A partition at the broker, and offsets [first, next) of it that were asked for.

    `first` may lie below `low`: then the broker has its beginning no longer.
    """

    low: int
    high: int
    first: int
    next: int


def resolve(view: KafkaView, topic: Topic, span: Span, partitions: Collection[int] | None) -> dict[int, Log]:
    """By partition; `partitions` None: all. Raises `InputError` for a partition that the topic lacks,
    `ServerUnavailableError`.
    """
    lows, highs = view.start_offsets(topic), view.end_offsets(topic)
    wanted = sorted(highs if partitions is None else set(partitions))
    if missing := [number for number in wanted if number not in highs]:
        raise InputError(
            f"Topic {topic.name} has no partition {missing[0]}: it has {topic.partitions}, numbered from 0."
        )
    found: dict[datetime, Mapping[int, int]] = {}
    for at in {point.at for point in span if point.at is not None}:
        found[at] = view.offsets_at(topic, at)
    logs = {}
    for number in wanted:
        low, high = lows[number], highs[number]
        times = {at: high if offsets[number] < 0 else offsets[number] for at, offsets in found.items()}
        first = min(high, _offset(span.first, low, high, times))
        logs[number] = Log(low, high, first, max(first, min(high, _offset(span.next, low, high, times))))
    return logs


def _offset(point: Point, low: int, high: int, times: Mapping[datetime, int]) -> int:
    if point.at is not None:
        return times[point.at]
    if point.edge is Edge.START:  # also what the broker has no longer: the books may have it
        return low + point.offset if point.offset else 0
    if point.edge is Edge.END:
        return max(low, high - point.offset)
    return point.offset
