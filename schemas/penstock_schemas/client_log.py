"""Where librdkafka's own log lines go, for the producer and the worker alike."""

import logging

__all__ = ["client_logger"]

# Told already by the client's error callback, by the failed request, or mended by the next attempt.
_RETRIED = frozenset({"BGQUEUE", "ERROR", "FAIL", "GETPID", "REQTMOUT"})


class _RetriesAreDetails(logging.Filter):
    """Lets lines about what librdkafka tries again by itself through as debug messages only."""

    def filter(self, record: logging.LogRecord) -> bool:
        facility = record.args[0] if isinstance(record.args, tuple) and record.args else None
        if facility not in _RETRIED:
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


def client_logger(name: str) -> logging.Logger:
    """The logger `name`, to be a Kafka client's `logger`: the client has to be polled, or its lines pile up.

    Without one librdkafka writes to stderr, past every setting of the application. Connections that
    failed and requests that are tried again become debug messages: a cluster that just starts makes
    twenty a second, and nobody has to act on them.
    """
    logger = logging.getLogger(name)
    if not any(isinstance(known, _RetriesAreDetails) for known in logger.filters):
        logger.addFilter(_RetriesAreDetails())
    return logger
