"""Lines of a file, plain or gzip, in bounded memory. Whatever the file holds, reading it ends well."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from penstock.errors import InputError

__all__ = ["MAX_LINE_BYTES", "Line", "LineReader"]

MAX_LINE_BYTES = 4 * 1024 * 1024
"""Four times what a topic takes by default: no longer line can be an event."""

_CHUNK = 256 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """One line without its end. `fault` says why it was not read whole; `data` is then empty."""

    number: int
    """Counted from 1."""
    data: bytes
    fault: str | None = None


class LineReader:
    """Iterates over the lines of `raw`, which it recognises as gzip by its first bytes.

    A line longer than `max_line` is a fault of its own and never held in memory; its pieces go to
    `on_overlong`. A file that breaks off (a truncated or damaged gzip, an I/O error) ends the iteration with
    `InputError` after its last whole line; what may be half a line is not given out.
    """

    def __init__(
        self,
        raw: BinaryIO,
        name: str,
        *,
        max_line: int = MAX_LINE_BYTES,
        on_overlong: Callable[[bytes], object] | None = None,
    ) -> None:
        self._raw = raw
        self._name = name
        self._max_line = max_line
        self._on_overlong = on_overlong or (lambda piece: None)
        self._number = 0

    def __iter__(self) -> Iterator[Line]:
        held = b""
        overlong = False
        for chunk in self._chunks():
            first, separator, rest = chunk.partition(b"\n")
            if not separator:
                held, overlong = self._grow(held, chunk, overlong)
                continue
            yield self._overlong(held + first) if overlong else self._line(held + first)
            *whole, held = rest.split(b"\n")
            overlong = False
            for data in whole:
                yield self._line(data)
        if overlong or held:
            yield self._overlong(held) if overlong else self._line(held)

    def position(self) -> int | None:
        """Bytes of the file read so far (compressed ones); None where it does not say, as a pipe."""
        try:
            return self._raw.tell()
        except (OSError, ValueError):
            return None

    def _grow(self, held: bytes, chunk: bytes, overlong: bool) -> tuple[bytes, bool]:
        if overlong or len(held) + len(chunk) > self._max_line:
            self._on_overlong(held + chunk)
            return b"", True
        return held + chunk, False

    def _line(self, data: bytes) -> Line:
        if len(data) > self._max_line:
            return self._overlong(data)
        self._number += 1
        if self._number == 1:
            data = data.removeprefix(_BOM)
        return Line(self._number, data.removesuffix(b"\r"))

    def _overlong(self, end: bytes) -> Line:
        self._on_overlong(end + b"\n")
        self._number += 1
        return Line(self._number, b"", f"the line is longer than {self._max_line:,} bytes")

    def _chunks(self) -> Iterator[bytes]:
        try:
            start = self._start()
            stream = _Rejoined(start, self._raw)
            # read1 gives what one step yields: `read` would lose up to a chunk before the place of a fault
            read = gzip.GzipFile(fileobj=stream, mode="rb").read1 if start == _GZIP_MAGIC else stream.read
            while chunk := read(_CHUNK):
                yield chunk
        except EOFError:
            raise self._broken("it is a gzip file that breaks off: copy it again, whole") from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise self._broken(f"its gzip data is damaged ({error}): copy it again") from None
        except OSError as error:
            raise self._broken(f"reading failed: {error.strerror or error}") from None

    def _start(self) -> bytes:
        """The first bytes, however few at a time a pipe gives them."""
        start = b""
        while len(start) < len(_GZIP_MAGIC) and (more := self._raw.read(len(_GZIP_MAGIC) - len(start))):
            start += more
        return start

    def _broken(self, why: str) -> InputError:
        return InputError(f"{self._name} cannot be read beyond line {self._number:,}: {why}.")


class _Rejoined(io.RawIOBase):
    """The bytes that were read to look at, then the rest: pipes cannot seek back."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start = start
        self._rest = rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._start:
            start, self._start = self._start, b""
            return start
        return self._rest.read(size)
