"""What Kafka refuses is told from what it does not answer, and the message names the right to grant."""

import pytest
from confluent_kafka import KafkaError

from penstock.cli.exit_codes import ExitCode
from penstock.cli.failures import exit_code_of
from penstock_consumer import WorkerSettings
from penstock_consumer.bounded import _fault
from penstock_consumer.dlq import DeadLetterQueue
from penstock_consumer.dlq.actions import _Run

SETTINGS = WorkerSettings(bootstrap_servers="kafka:9092", topics=("orders",), group_id="g")


def _run() -> _Run:
    queue = DeadLetterQueue(SETTINGS, "orders")
    return _Run(queue, lambda _letter, _why: None, partitions={0}, dry_run=True)


@pytest.mark.parametrize(
    ("code", "exit_code", "says"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ExitCode.REFUSED, "Grant READ and DESCRIBE"),
        (KafkaError._TRANSPORT, ExitCode.UNAVAILABLE, "kafka:9092 did not answer"),
        (KafkaError._AUTO_OFFSET_RESET, ExitCode.UNAVAILABLE, "ask again"),
    ],
)
def test_reading(code: int, exit_code: ExitCode, says: str) -> None:
    error = _fault("kafka:9092", "orders.dlq", KafkaError(code))
    assert exit_code_of(error) == exit_code
    assert says in str(error)
    assert "orders.dlq" in str(error)


@pytest.mark.parametrize(
    ("code", "exit_code", "says"),
    [
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, ExitCode.REFUSED, "penstock-redrive-orders.dlq"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ExitCode.REFUSED, "WRITE on orders and orders.dlq"),
        (KafkaError._FENCED, ExitCode.FAILED, "another redrive"),
        (KafkaError.COORDINATOR_NOT_AVAILABLE, ExitCode.UNAVAILABLE, "again does the rest"),
    ],
)
def test_sending(code: int, exit_code: ExitCode, says: str) -> None:
    error = _run()._fault(KafkaError(code))
    assert exit_code_of(error) == exit_code
    assert says in str(error)
