"""Logs: two forms, one set of rules."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from penstock.logging import configure_logging

SECRET = "s3cr3t-passphrase"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_machines_get_json_lines_from_both_kinds_of_loggers() -> None:
    out = io.StringIO()
    configure_logging("auto", "info", out)
    structlog.get_logger("a.b").info("stored", events=3)
    logging.getLogger("c").warning("slow %s", "disk")
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert first["event"] == "stored"
    assert first["events"] == 3
    assert first["level"] == "info"
    assert first["logger"] == "a.b"
    assert first["timestamp"].endswith("Z")
    assert second["event"] == "slow disk"
    assert second["level"] == "warning"


def test_people_get_lines() -> None:
    out = _Terminal()
    configure_logging("auto", "info", out)
    structlog.get_logger().info("stored", events=3)
    assert "stored" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_the_format_can_be_forced() -> None:
    out = _Terminal()
    configure_logging("json", "info", out)
    structlog.get_logger().info("stored")
    assert json.loads(out.getvalue())["event"] == "stored"


def test_what_is_less_severe_is_left_out() -> None:
    out = io.StringIO()
    configure_logging("json", "warning", out)
    structlog.get_logger().info("quiet")
    logging.getLogger("x").info("quiet")
    structlog.get_logger().error("loud")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_reaches_a_log(log_format: str) -> None:
    out = io.StringIO()
    configure_logging(log_format, "info", out)  # type: ignore[arg-type]
    url = f"postgresql://u:{SECRET}@h/d"
    structlog.get_logger().info(
        f"connecting to {url}", url=url, config={"sasl.password": SECRET}, error=ValueError(url)
    )
    logging.getLogger("x").warning("password=%s", SECRET)
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError(url)
    logging.getLogger("x").error("failed", exc_info=caught.value)
    assert SECRET not in out.getvalue()
    assert "u:***@h" in out.getvalue()


def test_configuring_twice_writes_each_line_once() -> None:
    out = io.StringIO()
    configure_logging("json", "info", out)
    configure_logging("json", "info", out)
    structlog.get_logger().info("once")
    assert len(out.getvalue().splitlines()) == 1
