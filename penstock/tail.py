"""What is left of a topic beyond the positions: records, as against offsets that hold none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from penstock_consumer import WorkerSettings
from penstock_consumer.bounded import read

__all__ = ["unread"]

_TAIL = 100  # offsets of a partition that are read to learn what they are


def unread(
    workers: WorkerSettings,
    topic: str,
    positions: Mapping[int, int],
    lows: Mapping[int, int],
    highs: Mapping[int, int],
    *,
    deadline: float = 15.0,
) -> dict[int, int]:
    """Records beyond the positions, by partition; where there is too much to read, offsets.

    Behind a transaction stands its marker, which nobody ever ingests. Without a position all that the broker
    has is left. Raises `SourceUnavailable` where nothing comes for `deadline` seconds, `SourceFailed`.
    """
    starts = {number: max(low, positions.get(number, low)) for number, low in lows.items()}
    found = {number: max(0, high - starts[number]) for number, high in highs.items()}
    short = {number: (starts[number], highs[number]) for number, left in found.items() if 0 < left <= _TAIL}
    records: Counter[int] = Counter()
    for some in read(workers, topic, short, deadline=deadline):
        records.update(record.partition() for record in some)
    return found | {number: records[number] for number in short}
