"""Everything that this distribution raises.

`ConsumerError` is the root. `Unavailable` and its kinds are waited out by the engine and reach nobody; the
others end the worker, and their message says what to do before it is started again.
"""

__all__ = [
    "ConsumerError",
    "DeadLettersRefused",
    "DeadLettersUnavailable",
    "PoisonFlood",
    "RecordEndsProcess",
    "RedriveInterrupted",
    "ReplayTakenOver",
    "SinkFailed",
    "SourceFailed",
    "SourceUnavailable",
    "TopicMismatch",
    "Unavailable",
]


class ConsumerError(Exception):
    """Root of the errors of `penstock_consumer`."""


class Unavailable(ConsumerError):
    """A server gave no answer to rely on. No record is at fault: wait, ask again."""


class SourceUnavailable(Unavailable):
    """Kafka did not answer within its deadline. Asked again with back-off."""


class DeadLettersUnavailable(Unavailable):
    """The dead-letter topic did not acknowledge. Nothing is committed; the batch is tried again."""


class DeadLettersRefused(ConsumerError):
    """Kafka does not let this client write to a dead-letter topic: no record is at fault, and waiting does
    not help. Nothing of the batch was committed. Grant WRITE, then start the worker again.
    """


class SourceFailed(ConsumerError):
    """Kafka refuses this client for good (authorization, fatal client error). The message names the right
    to grant or the setting to change.
    """


class SinkFailed(ConsumerError):
    """PostgreSQL refuses every batch (missing column, privilege): nobody's record is at fault and nothing was
    dead-lettered. Migrate or grant as the message says, then start the worker again.
    """


class ReplayTakenOver(SinkFailed):
    """Another replay took over and goes on from here. What was committed stays."""


class PoisonFlood(ConsumerError):
    """Too large a share of the latest records cannot be ingested, so the fault is hardly theirs. Nothing of
    the last batch was committed. Find out what changed; to let them go to the dead-letter topic all the
    same, start the worker with `dead_letter_share=1`.
    """


class RecordEndsProcess(ConsumerError):
    """A record that no process survives decoding. It goes to the dead-letter topic undecoded."""


class TopicMismatch(ConsumerError):
    """A topic is missing and may not be created, or cannot be used as it is. The message says which
    setting.
    """


class RedriveInterrupted(ConsumerError):
    """Another redrive or discard of the same dead-letter topic took over. What was done stays done; run it
    again when the other has ended.
    """
