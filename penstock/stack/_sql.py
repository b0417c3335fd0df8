"""Short administrative statements, for callers that are not coroutines (commands, fixtures)."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg

__all__ = ["execute", "fetch_value", "literal", "quote_identifier", "with_connection"]

_T = TypeVar("_T")
_CONNECT_S = 5.0
_CLOSE_S = 2.0


def with_connection(
    url: str, work: Callable[["asyncpg.Connection[Any]"], Awaitable[_T]], *, timeout_s: float
) -> _T:
    """Run `work` on a new connection, in a loop and a thread of its own: safe under any caller."""

    async def session() -> _T:
        connection = await asyncpg.connect(url, timeout=min(_CONNECT_S, timeout_s))
        try:
            return await asyncio.wait_for(work(connection), timeout_s)
        finally:
            try:
                await connection.close(timeout=_CLOSE_S)
            except (TimeoutError, OSError, asyncpg.PostgresError):
                connection.terminate()

    outcome: list[_T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(session()))
        except BaseException as error:  # raised again below, in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=run, name="penstock-sql")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def execute(url: str, statements: Sequence[str], *, timeout_s: float = 30.0) -> None:
    """Execute each statement, each its own transaction."""

    async def work(connection: "asyncpg.Connection[Any]") -> None:
        for statement in statements:
            await connection.execute(statement)

    with_connection(url, work, timeout_s=timeout_s)


def fetch_value(url: str, query: str, *arguments: object, timeout_s: float = 30.0) -> object:
    """The first column of the first row."""

    async def work(connection: "asyncpg.Connection[Any]") -> object:
        return await connection.fetchval(query, *arguments)

    return with_connection(url, work, timeout_s=timeout_s)


def quote_identifier(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as an SQL string, for statements that take no parameters (CREATE ROLE … PASSWORD)."""
    escaped = text.replace("'", "''").replace("\\", "\\\\")
    return f" E'{escaped}'"
