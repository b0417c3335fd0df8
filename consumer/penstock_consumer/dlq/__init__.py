"""Dead letters as a product: look at them, send them back, put them aside."""

from penstock_consumer.dlq.actions import Report, discard, redrive
from penstock_consumer.dlq.letters import ATTEMPTS, MARK, REDRIVEN_FROM, Letter, Mark, Place, State
from penstock_consumer.dlq.queue import DeadLetterQueue, Statistics
from penstock_consumer.dlq.selection import Selection

__all__ = [
    "ATTEMPTS",
    "MARK",
    "REDRIVEN_FROM",
    "DeadLetterQueue",
    "Letter",
    "Mark",
    "Place",
    "Report",
    "Selection",
    "State",
    "Statistics",
    "discard",
    "redrive",
]
