"""kurrentdbclient with a deadline on every call and our errors. Nothing here knows what an event means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from kurrentdbclient import AsyncKurrentDBClient, NewEvent, StreamState
from kurrentdbclient import RecordedEvent as Stored
from kurrentdbclient.exceptions import NotFoundError, WrongCurrentVersionError

from penstock_store.kurrentdb._failures import CLIENT_ERRORS, store_error
from penstock_store.kurrentdb._plan import Filter
from penstock_store.kurrentdb.settings import KurrentSettings
from penstock_store.read_errors import CLOSED, StoreUnavailable
from penstock_store.store_errors import InvalidSettings

__all__ = ["KurrentClient", "RevisionMoved"]


class RevisionMoved(Exception):
    """The stream is not at the revision expected; nothing was stored."""


class KurrentClient:
    """Connects when first used. Any number of tasks may share one."""

    def __init__(self, settings: KurrentSettings) -> None:
        self._settings = settings
        try:
            self._client = AsyncKurrentDBClient(settings.connection_string)
        except (ValueError, OSError) as error:  # an option, a certificate's file
            raise InvalidSettings(f"uri cannot be used: {settings.without_secrets(str(error))}") from None
        self._connected = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """No call is answered any more."""
        return self._closed

    async def close(self) -> None:
        """Within `close_timeout`. Safe to call again."""
        self._closed = True
        if self._connected:
            self._connected = False
            with suppress(*CLIENT_ERRORS):
                async with asyncio.timeout(self._settings.close_timeout):
                    await self._client.close()

    async def append(self, stream: str, events: Sequence[NewEvent], revision: int) -> None:
        """All or nothing, behind `revision` (-1: the stream is not there). Raises `RevisionMoved`."""
        expected = StreamState.NO_STREAM if revision < 0 else revision
        async with self._call() as timeout:
            try:
                await self._client.append_to_stream(
                    stream, events=events, current_version=expected, timeout=timeout
                )
            except WrongCurrentVersionError as error:
                raise RevisionMoved from error

    async def set_max_count(self, stream: str, count: int) -> None:
        """The server keeps that many of the stream's events."""
        async with self._call() as timeout:
            await self._client.set_stream_metadata(
                stream, metadata={"$maxCount": count}, current_version=StreamState.ANY, timeout=timeout
            )

    async def read_stream(
        self, stream: str, position: int | None, *, limit: int, backwards: bool = False, links: bool = False
    ) -> list[Stored]:
        """From `position` on, itself included; None: from the end that the direction begins at."""
        async with self._call() as timeout:
            try:
                response = await self._client.read_stream(
                    stream,
                    stream_position=position,
                    backwards=backwards,
                    resolve_links=links,
                    limit=limit,
                    timeout=timeout,
                )
                return [stored async for stored in response]
            except NotFoundError:
                return []

    async def read_all(
        self, position: int | None, wanted: Filter, *, limit: int, backwards: bool = False
    ) -> list[Stored]:
        """As `read_stream`, of the whole database; `position` is one of commit, included when forwards."""
        async with self._call() as timeout:
            response = await self._client.read_all(
                commit_position=position,
                backwards=backwards,
                limit=limit,
                timeout=timeout,
                **wanted.arguments(),
            )
            return [stored async for stored in response]

    @asynccontextmanager
    async def follow(self, position: int | None, wanted: Filter) -> AsyncIterator[AsyncIterator[Stored]]:
        """What comes after `position`, for ever; positions that were passed come as checkpoints."""
        async with self._call():
            subscription: Any = await self._client.subscribe_to_all(
                commit_position=position,
                include_checkpoints=True,
                include_caught_up=True,
                **wanted.arguments(),
            )
        try:
            yield subscription
        except CLIENT_ERRORS as error:
            raise store_error(error, self._settings) from error
        finally:
            with suppress(*CLIENT_ERRORS):
                async with asyncio.timeout(self._settings.close_timeout):
                    await subscription.stop()

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[float]:
        if self._closed:
            raise StoreUnavailable(CLOSED)
        seconds = self._settings.call_timeout
        try:
            async with asyncio.timeout(seconds):
                await self._client.connect()
                self._connected = True
                yield seconds
        except CLIENT_ERRORS as error:
            raise store_error(error, self._settings) from error
