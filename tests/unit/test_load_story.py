"""`penstock load` without servers: what becomes of each line, and how a load ends."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.app import run
from penstock.cli.exit_codes import ExitCode
from penstock.cli.load import exit_code_of
from penstock.errors import InputError
from penstock.loading.lines import Line, LineReader
from penstock.loading.load import load_lines
from penstock.loading.parse import NotAnEvent, event_of_line
from penstock.loading.summary import SHOWN_BAD_LINES, BadLine, End, LoadSummary
from penstock_producer.testing import InMemoryProducer
from penstock_schemas import Event


def cloudevent(number: int = 0, **attributes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{number}",
        "source": "/tests",
        "type": "parcel.scanned",
        "subject": f"P{number % 3}",
        "time": "2026-03-01T12:00:00Z",
        "data": {"n": number},
    } | attributes


def line(number: int = 0, **attributes: Any) -> bytes:
    return json.dumps(cloudevent(number, **attributes)).encode()


class Watcher:
    def __init__(self) -> None:
        self.bad: list[tuple[BadLine, bytes]] = []
        self.failed: list[BadLine] = []
        self.told = 0

    def progress(self, summary: LoadSummary) -> None:
        self.told += 1

    def bad_line(self, line: BadLine, data: bytes) -> None:
        self.bad.append((line, data))

    def failed_line(self, line: BadLine) -> None:
        self.failed.append(line)


def load(
    producer: InMemoryProducer, data: bytes, watcher: Watcher | None = None, **options: Any
) -> LoadSummary:
    reader = LineReader(io.BytesIO(data), "the file")
    return load_lines(reader, producer.emit, lambda: None, watcher or Watcher(), **options)


@pytest.fixture
def producer() -> Iterator[InMemoryProducer]:
    with InMemoryProducer() as made:
        yield made


def test_events_are_emitted_in_the_files_order(producer: InMemoryProducer) -> None:
    summary = load(producer, b"\n".join(line(n) for n in range(1_200)))
    assert [event.payload["n"] for event in producer.events] == list(range(1_200))
    assert (summary.lines, summary.emitted, summary.bad, summary.end) == (1_200, 1_200, 0, End.COMPLETE)
    assert exit_code_of(summary) is ExitCode.OK


def test_bad_lines_are_reported_by_number_and_the_rest_goes_on(producer: InMemoryProducer) -> None:
    watcher = Watcher()
    data = [line(0), b"", b"not json", line(1), b"[1]", b"  \t\r", b"null", line(2, type=""), line(3)]
    summary = load(producer, b"\n".join(data), watcher)
    assert [(bad.number, raw) for bad, raw in watcher.bad] == [
        (3, b"not json"),
        (5, b"[1]"),
        (7, b"null"),
        (8, data[7]),
    ]
    assert [bad.reason.split(":")[0] for bad, _ in watcher.bad[:3]] == [
        "the line is not JSON",
        "the line is JSON, but an array and not an object",
        "the line is JSON, but null and not an object",
    ]
    assert (summary.lines, summary.blank, summary.bad, summary.emitted) == (9, 2, 4, 3)
    assert exit_code_of(summary) is ExitCode.DATA


def test_it_stops_at_the_first_bad_line_where_told(producer: InMemoryProducer) -> None:
    summary = load(producer, b"\n".join([line(0), b"junk", line(1)]), on_error="stop")
    assert (summary.lines, summary.emitted, summary.bad, summary.end) == (2, 1, 1, End.STOPPED)
    assert "line 2 is bad" in summary.why


def test_failed_deliveries_are_counted_by_line_and_make_it_fail(producer: InMemoryProducer) -> None:
    watcher = Watcher()
    producer.fail(2)
    summary = load(producer, b"\n".join([b"", line(0), line(1), line(2)]), watcher)
    assert [failed.number for failed in watcher.failed] == [2, 3]
    assert "_MSG_TIMED_OUT" in watcher.failed[0].reason
    assert (summary.emitted, summary.failed) == (1, 2)
    assert exit_code_of(summary) is ExitCode.UNAVAILABLE


def test_it_stops_after_a_failed_delivery_where_told(producer: InMemoryProducer) -> None:
    producer.fail()
    summary = load(producer, b"\n".join(line(n) for n in range(5_000)), on_error="stop")
    assert summary.end is End.STOPPED
    assert summary.failed == 1
    assert summary.lines < 5_000


def test_what_has_no_answer_is_counted_and_makes_it_fail(producer: InMemoryProducer) -> None:
    producer.hold()
    summary = load(producer, b"\n".join(line(n) for n in range(3)))
    producer.release()
    assert (summary.emitted, summary.unanswered) == (0, 3)
    assert exit_code_of(summary) is ExitCode.UNAVAILABLE


def test_a_limit_counts_events_and_reads_no_further(producer: InMemoryProducer) -> None:
    def lines() -> Iterator[Line]:
        yield Line(1, b"junk")
        yield Line(2, line(0))
        yield Line(3, line(1))
        raise AssertionError("read beyond the limit")

    summary = load_lines(lines(), producer.emit, lambda: None, Watcher(), limit=2)
    assert (summary.emitted, summary.bad, summary.end) == (2, 1, End.LIMIT)
    assert "limit of 2" in summary.why


def test_a_file_that_breaks_off_counts_what_came_before(producer: InMemoryProducer) -> None:
    packed = gzip.compress(b"\n".join(line(n, data={"x": f"{n * 7919}"}) for n in range(3_000)))
    summary = load(producer, packed[: len(packed) // 2])
    assert 0 < summary.emitted < 3_000
    assert summary.end is End.BROKEN
    assert "breaks off" in summary.why
    assert exit_code_of(summary) is ExitCode.DATA


def test_an_interruption_flushes_and_counts(producer: InMemoryProducer) -> None:
    def lines() -> Iterator[Line]:
        yield Line(1, line(0))
        raise KeyboardInterrupt

    flushed: list[bool] = []
    summary = load_lines(lines(), producer.emit, lambda: flushed.append(True), Watcher())
    assert (summary.emitted, summary.end, flushed) == (1, End.INTERRUPTED, [True])
    assert exit_code_of(summary) is ExitCode.INTERRUPTED


def test_a_producer_that_takes_no_more_ends_the_load() -> None:
    with InMemoryProducer(buffer_events=2, on_full="raise") as producer:
        producer.hold()
        summary = load(producer, b"\n".join(line(n) for n in range(5)))
        producer.release()
    assert (summary.end, summary.unanswered) == (End.UNAVAILABLE, 2)
    assert exit_code_of(summary) is ExitCode.UNAVAILABLE


def test_an_event_too_large_is_a_bad_line() -> None:
    with InMemoryProducer(max_event_bytes=1_000) as producer:
        summary = load(producer, b"\n".join([line(0, data={"x": "y" * 1_000}), line(1)]))
    assert (summary.bad, summary.emitted) == (1, 1)


def test_only_the_first_bad_lines_are_kept(producer: InMemoryProducer) -> None:
    summary = load(producer, b"junk\n" * 20_000)
    assert summary.bad == 20_000
    assert len(summary.shown) == SHOWN_BAD_LINES
    assert len(json.dumps(summary.as_json())) < 3_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xfe", "not text in UTF-8"),
        (b'{"a": 1,}', r"not JSON: .* \(at character \d\)"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"n": 12345678901234567890123, "x": Infinity}', "Infinity is not JSON"),
        (b'{"n": 12345678901234567890123, "x": "\xff"}', "not text in UTF-8"),
        (b"9" * 5_000, "not JSON"),
        (b"[" * 100_000 + b"1234567890123456789", "too deeply"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "specversion"),
        (line(0, specversion="0.3"), "specversion"),
        (line(0, time="yesterday"), "time"),
        (line(0, subject="a\x00b"), "NUL"),
        (line(0, data={"a\x00": 1}), "NUL"),
    ],
)
def test_each_kind_of_bad_line_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(NotAnEvent, match=reason) as refused:
        event_of_line(data)
    assert len(str(refused.value)) < 400


def test_numbers_beyond_64_bits_stay_exact() -> None:
    exact = 2**80 + 1
    event = event_of_line(line(0, data={"n": exact, "f": 0.1234567890123456789}))
    assert event.payload == {"n": exact, "f": 0.1234567890123456789}


def test_a_very_long_line_is_a_bad_line_and_its_neighbours_are_events() -> None:
    data = b"\n".join([line(0), b"x" * 5_000_000, line(1)])
    found = list(LineReader(io.BytesIO(data), "f"))
    assert [one.fault is None for one in found] == [True, False, True]
    assert [one.number for one in found] == [1, 2, 3]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert [one.data for one in LineReader(io.BytesIO(b"\xef\xbb\xbfa\r\nb"), "f")] == [b"a", b"b"]


def test_a_damaged_gzip_is_told_from_a_truncated_one() -> None:
    packed = bytearray(gzip.compress(b"a\n" * 100_000))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(InputError, match="damaged"):
        list(LineReader(io.BytesIO(bytes(packed)), "f"))


# The command, without servers.


def penstock(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(list(arguments))
    said = capfd.readouterr()
    return code, said.out, said.err


def test_a_dry_run_checks_everything_and_connects_to_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "events.jsonl.gz"
    file.write_bytes(gzip.compress(b"\n".join([line(0), b"junk", line(1)])))
    rejects = tmp_path / "bad.jsonl"
    code, out, err = penstock(
        capfd, "load", str(file), "--dry-run", "--json", "--kafka", "127.0.0.1:1", "--rejects", str(rejects)
    )
    summary = json.loads(out)
    assert code == ExitCode.DATA
    assert (summary["lines"], summary["emitted"], summary["bad"], summary["dry_run"]) == (3, 2, 1, True)
    assert summary["seconds"] >= 0
    assert summary["bad_lines"] == [{"line": 2, "reason": summary["bad_lines"][0]["reason"]}]
    assert "bad line 2: the line is not JSON" in err
    assert rejects.read_bytes() == b"junk\n"


def test_rejects_hold_every_bad_line_whole_however_long(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = [b"junk", b"y" * 5_000_000, b"\xff\xfe"]
    file, rejects = tmp_path / "events.jsonl", tmp_path / "bad"
    file.write_bytes(b"\n".join([bad[0], line(0), bad[1], b"", bad[2], line(1)]))
    code, out, _ = penstock(capfd, "load", str(file), "--dry-run", "--rejects", str(rejects))
    assert code == ExitCode.DATA
    assert "2 events would be emitted" in out
    assert "3 bad" in out
    assert rejects.read_bytes() == b"".join(one + b"\n" for one in bad)


def test_printed_bad_lines_are_bounded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "junk"
    file.write_bytes(b"junk\n" * 1_000)
    code, out, err = penstock(capfd, "load", str(file), "--dry-run")
    assert code == ExitCode.DATA
    assert err.count("bad line") == SHOWN_BAD_LINES
    assert "1,000 bad" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["load", "missing.jsonl", "--dry-run"], ExitCode.DATA, "No such file"),
        (["load", ".", "--dry-run"], ExitCode.DATA, "cannot be read"),
        (["load", "x", "--limit", "0"], ExitCode.USAGE, "--limit"),
        (["load", "x", "--on-error", "perhaps"], ExitCode.USAGE, "--on-error"),
    ],
)
def test_what_cannot_be_read_is_said(
    arguments: list[str], code: int, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found, _, err = penstock(capfd, *arguments)
    assert found == code
    assert said in err


def test_rejects_must_not_be_the_file_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(line(0))
    code, _, err = penstock(capfd, "load", str(file), "--dry-run", "--rejects", str(file))
    assert code == ExitCode.DATA
    assert "--rejects names the file" in err
    assert file.read_bytes() == line(0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--type", "", "--entity", "1"], "--type"),
        (["--type", "x", "--entity", "1", "--payload", "[1]"], "must be a JSON object"),
        (["--type", "x", "--entity", "1", "--payload", "{"], "--payload is not JSON"),
        (["--type", "x", "--entity", "1", "--payload", "@missing"], "missing cannot be read"),
        (["--type", "x", "--entity", "1", "--occurred-at", "noon"], "--occurred-at"),
        (["--type", "x", "--entity", "1", "--payload", '{"a": NaN}'], "--payload"),
        (["--type", "x", "--entity", "1", "--topic", "a b"], "'a b' is no name for a topic"),
    ],
)
def test_emit_names_the_option_at_fault(
    options: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = penstock(capfd, "emit", *options, "--kafka", "127.0.0.1:1")
    assert (code, out) == (ExitCode.DATA, "")
    assert said in err
    assert "Value error" not in err


def test_lines_that_become_events_keep_what_cloudevents_said() -> None:
    event = event_of_line(line(7))
    assert isinstance(event, Event)
    assert (event.event_type, event.entity_id, event.idempotency_key) == ("parcel.scanned", "P1", "/tests 7")
