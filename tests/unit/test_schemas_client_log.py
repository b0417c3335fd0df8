"""What librdkafka says by itself: details where it tries again, news where somebody has to act."""

import logging

import pytest
from confluent_kafka import Producer

from penstock_schemas.client_log import client_logger

# What the C binding calls: level, format, facility, client, text.
LINE = "%s [%s] %s"


def test_retries_are_details(caplog: pytest.LogCaptureFixture) -> None:
    logger = client_logger("tests.librdkafka.retries")
    with caplog.at_level(logging.INFO, logger.name):
        logger.log(logging.ERROR, LINE, "FAIL", "client-1", "Connect to ipv4#127.0.0.1:1 failed")
        logger.log(logging.WARNING, LINE, "GETPID", "client-1", "Coordinator load in progress: retrying")
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, logger.name):
        logger.log(logging.ERROR, LINE, "FAIL", "client-1", "Connect to ipv4#127.0.0.1:1 failed")
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


def test_what_needs_somebody_keeps_its_level(caplog: pytest.LogCaptureFixture) -> None:
    logger = client_logger("tests.librdkafka.news")
    with caplog.at_level(logging.INFO, logger.name):
        logger.log(logging.WARNING, LINE, "MAXPOLL", "client-1", "poll interval exceeded")
        logger.warning("a line without facility")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_a_logger_is_prepared_once() -> None:
    assert client_logger("tests.librdkafka.once") is client_logger("tests.librdkafka.once")
    assert len(client_logger("tests.librdkafka.once").filters) == 1


def test_a_refused_connection_reaches_neither_stderr_nor_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    refused: list[object] = []
    client = Producer(
        {
            "bootstrap.servers": "127.0.0.1:1",
            "logger": client_logger("tests.librdkafka.real"),
            "error_cb": refused.append,
            "log_level": 5,
        }
    )
    with caplog.at_level(logging.INFO):
        for _ in range(100):
            client.poll(0.1)
            if refused:
                break
        client.poll(0.1)
    assert refused
    assert not caplog.records
    assert capfd.readouterr().err == ""
