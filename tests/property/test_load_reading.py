"""Laws of reading lines: however the bytes come, the lines are those of the file, in bounded memory."""

import gzip
import io
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import InputError
from penstock.loading.lines import Line, LineReader

LIMIT = 20
content = st.lists(
    st.one_of(st.binary(max_size=LIMIT + 8).map(lambda b: b.replace(b"\n", b"n")), st.just(b"")), max_size=12
)


class Trickle(io.RawIOBase):
    """Gives as many bytes at a time as the test says, like a pipe."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data = io.BytesIO(data)
        self._sizes = sizes

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._sizes.pop() if self._sizes else 7
        return self._data.read(min(wanted, size) if size >= 0 else wanted)


def read(raw: BinaryIO | Trickle, **options: int) -> tuple[list[Line], list[bytes]]:
    pieces: list[bytes] = []
    reader = LineReader(raw, "f", on_overlong=pieces.append, **options)  # type: ignore[arg-type]
    return list(reader), pieces


def expected(lines: list[bytes]) -> list[bytes | None]:
    """What each line reads as; None where it is too long. The end of a line may be CR LF."""
    return [None if len(line) > LIMIT else line.removesuffix(b"\r") for line in lines]


def plain(lines: list[bytes]) -> bool:
    start = b"\n".join(lines)[:3]
    return not start.startswith((b"\x1f\x8b", b"\xef\xbb\xbf"))


@given(content, st.lists(st.integers(1, 40), max_size=30), st.booleans(), st.booleans())
def test_lines_do_not_depend_on_how_the_bytes_come(
    lines: list[bytes], sizes: list[int], ended: bool, packed: bool
) -> None:
    if not plain(lines):
        lines = [b"x", *lines]
    data = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    if data.endswith(b"\n") and not ended:
        lines = lines[:-1]  # the empty rest after the last end of line is no line
    elif not data:
        lines = []
    raw = Trickle(gzip.compress(data) if packed else data, sizes)
    found, pieces = read(raw, max_line=LIMIT)
    assert [line.number for line in found] == list(range(1, len(found) + 1))
    assert [None if line.fault else line.data for line in found] == expected(lines)
    overlong = b"".join(line + b"\n" for line in lines if len(line) > LIMIT)
    assert b"".join(pieces) == overlong


@given(content.filter(plain), st.data())
def test_a_gzip_that_breaks_off_gives_whole_lines_only_and_then_says_so(
    lines: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    packed = gzip.compress(whole)
    cut = data.draw(st.integers(2, len(packed) - 1))
    found: list[Line] = []
    with pytest.raises(InputError, match="f cannot be read beyond line"):
        found.extend(LineReader(io.BytesIO(packed[:cut]), "f"))
    assert [line.data for line in found] == [line.removesuffix(b"\r") for line in lines][: len(found)]


@given(st.binary(max_size=400))
def test_any_bytes_end_well(junk: bytes) -> None:
    for data in (junk, b"\x1f\x8b" + junk):
        try:
            found, _ = read(io.BytesIO(data), max_line=LIMIT)
        except InputError:
            continue
        assert all(len(line.data) <= LIMIT for line in found)
