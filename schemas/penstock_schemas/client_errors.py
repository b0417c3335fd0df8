"""What a Kafka client raises beside its own errors, for the producer and the worker alike."""

from confluent_kafka import KafkaError, KafkaException

__all__ = ["fatal_cause"]


def fatal_cause(error: KafkaException | SystemError) -> KafkaException:
    """What a producer's `poll`, `flush` and transactions mean at a fatal error. They call delivery reports
    back with it pending, as an exception, so that these end in a SystemError.
    """
    if isinstance(error, KafkaException):
        return error
    cause = error.__cause__
    if isinstance(cause, KafkaException):
        return cause
    return KafkaException(KafkaError(KafkaError._FATAL, "a fatal error, which librdkafka's own log names"))
