"""Each backend against one plain model, whatever is called in whatever order; with restarts."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fixtures.databases import Database
from fixtures.query_model import selected
from penstock_schemas import Event, RecordedEvent
from penstock_store.backends import create_event_store
from penstock_store.checkpoint_errors import CheckpointHeld, CheckpointLost
from penstock_store.checkpoints import Checkpoint
from penstock_store.contract import OrderBy, QueryOptions
from penstock_store.store_contract import EventStore
from penstock_store.store_errors import AppendConflict, WrongExpectedVersion

_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_Result = TypeVar("_Result")

_events = st.builds(
    Event,
    event_type=st.sampled_from(["a", "b"]),
    entity_id=st.sampled_from(["e1", "e2", "e3"]),
    tenant_id=st.sampled_from(["default", "other"]),
    event_id=st.integers(1, 12).map(lambda number: UUID(int=number)) | st.uuids(),
    idempotency_key=st.none() | st.sampled_from(["k1", "k2", "k3"]),
    occurred_at=st.integers(0, 5).map(lambda hour: _FIRST + timedelta(hours=hour)),
    correlation_id=st.sampled_from(["c1", "c2"]),
    actor_id=st.sampled_from([None, "ann"]),
    payload=st.sampled_from([{}, {"n": 1}, {"n": [1, {"m": None}]}]),
    metadata=st.sampled_from([{}, {"tags": ["red"]}]),
)
_queries = st.builds(
    QueryOptions,
    event_types=st.sampled_from([[], ["a"], ["a", "b"]]),
    entity_id=st.sampled_from([None, "e1"]),
    tenant_id=st.sampled_from([None, "other"]),
    since=st.sampled_from([None, _FIRST + timedelta(hours=2)]),
    tags=st.sampled_from([[], ["red"]]),
    payload=st.sampled_from([{}, {"n": [1]}]),
    after_sequence=st.none() | st.integers(0, 20),
    order_by=st.sampled_from(OrderBy),
    descending=st.booleans(),
)


_names = st.sampled_from(["p", "q"])


class Machine(RuleBasedStateMachine):
    """`open_store` opens the same store again; `durable` says that it then holds what it held."""

    open_store: Callable[[], EventStore]
    wipe: Callable[[], None]
    durable: bool

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model: list[RecordedEvent] = []
        self.snapshots: dict[tuple[str, int], tuple[int, Any]] = {}
        self.kept: dict[str, tuple[int, Any]] = {}  # of each checkpoint: its position and state
        self.owners: dict[str, Checkpoint] = {}
        self.zombies: list[Checkpoint] = []

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        async def bounded() -> _Result:
            async with asyncio.timeout(60):
                return await work

        return self.runner.run(bounded())

    @initialize()
    def open(self) -> None:
        type(self).wipe()
        self.store = type(self).open_store()
        self.run(self.store.initialize())

    @rule(events=st.lists(_events, min_size=1, max_size=4))
    def append(self, events: list[Event]) -> None:
        self._append(events, None)

    @rule(events=st.lists(_events, min_size=1, max_size=3), right=st.booleans())
    def append_expecting(self, events: list[Event], right: bool) -> None:
        entity = {"entity_id": events[0].entity_id, "tenant_id": events[0].tenant_id}
        events = [event.model_copy(update=entity) for event in events]
        version = self._version(events[0])
        self._append(events, version if right else version + 1)

    def _version(self, event: Event) -> int:
        entity = event.tenant_id, event.entity_id
        return max((e.sequence for e in self.model if (e.tenant_id, e.entity_id) == entity), default=0)

    def _append(self, events: list[Event], expected: int | None) -> None:
        keys = {(event.tenant_id, event.idempotency_key): event for event in reversed(self.model)}
        ids = {event.event_id for event in self.model}
        fresh: list[Event] = []
        firsts = {(event.tenant_id, event.idempotency_key): event for event in reversed(events)}
        conflict = len(firsts) > len({event.event_id for event in firsts.values()})
        for event in events:
            key = event.tenant_id, event.idempotency_key
            stored = keys.get(key) or next(
                (e for e in fresh if (e.tenant_id, e.idempotency_key) == key), None
            )
            if stored is not None:
                conflict |= stored.content_hash != event.content_hash
            else:
                conflict |= event.event_id in ids
                fresh.append(event)
        if conflict:
            with pytest.raises(AppendConflict):
                self.run(self.store.append_batch(events, expected_version=expected))
        elif fresh and expected is not None and expected != self._version(events[0]):
            with pytest.raises(WrongExpectedVersion):
                self.run(self.store.append_batch(events, expected_version=expected))
        else:
            results = self.run(self.store.append_batch(events, expected_version=expected))
            new = [result for result in results if result.stored]
            assert [result.event_id for result in new] == [event.event_id for event in fresh]
            for event, result in zip(fresh, new, strict=True):
                assert result.sequence > max((e.sequence for e in self.model), default=0)
                place = {"sequence": result.sequence, "recorded_at": result.recorded_at}
                self.model.append(RecordedEvent(**_plain(event), **place))

    @rule(options=_queries, limit=st.integers(1, 5))
    def query(self, options: QueryOptions, limit: int) -> None:
        wanted = selected(self.model, options)
        page = self.run(self.store.get_events(options.replace(limit=limit)))
        assert list(page.events) == wanted[:limit]
        assert page.has_more is (len(wanted) > limit)
        if page.next_cursor:
            more = self.run(self.store.get_events(options.replace(cursor=page.next_cursor)))
            assert list(more.events) == wanted[limit:]

    @rule(key=st.sampled_from(["s1", "s2"]), sequence=st.integers(0, 9), version=st.integers(1, 2))
    def snapshot(self, key: str, sequence: int, version: int) -> None:
        kept = self.snapshots.get((key, version))
        state = {"at": sequence}
        newer = kept is None or kept[0] <= sequence
        call = self.store.create_snapshot(key, state, sequence=sequence, state_version=version)
        assert self.run(call) is newer
        if newer:
            self.snapshots[key, version] = sequence, state

    @rule(name=_names, take=st.booleans())
    def claim(self, name: str, take: bool) -> None:
        claimed = self.store.checkpoint(name, lease=3_600, wait=0, take=take)
        if name in self.owners and not take:
            with pytest.raises(CheckpointHeld):
                self.run(claimed.__aenter__())
            return
        self.run(claimed.__aenter__())
        if name in self.owners:
            self.zombies.append(self.owners[name])
        self.owners[name] = claimed
        assert (claimed.sequence, claimed.state) == self.kept.setdefault(name, (0, None))

    @precondition(lambda self: self.owners)
    @rule(name=_names, read=st.integers(1, 4), kind=st.sampled_from([None, "a"]), note=st.booleans())
    def follow(self, name: str, read: int, kind: str | None, note: bool) -> None:
        """Some of what is there after the checkpoint, in order, each event saved."""
        if name not in self.owners:
            return
        position, state = self.kept[name]
        last = max((event.sequence for event in self.model), default=0)
        options = QueryOptions(event_types=[kind] if kind else [], up_to_sequence=last)
        wanted = [e for e in self.model if e.sequence > position and kind in (None, e.event_type)][:read]
        seen = self.run(self._follow(self.owners[name], options, read, note)) if last else []
        assert seen == wanted
        # The end was looked at where fewer were there than asked for; it may be saved at any later moment.
        for event in wanted:
            state = event.sequence if note else state
            position = event.sequence
        self.kept[name] = position, state

    async def _follow(
        self, owner: Checkpoint, options: QueryOptions, read: int, note: bool
    ) -> list[RecordedEvent]:
        seen: list[RecordedEvent] = []
        async with aclosing(owner.subscribe(options.replace(limit=read))) as events:
            async for event in events:
                await (owner.save(event.sequence, event.sequence) if note else owner.save(event.sequence))
                seen.append(event)
        return seen

    @precondition(lambda self: self.zombies)
    @rule(ahead=st.integers(0, 3))
    def superseded(self, ahead: int) -> None:
        zombie = self.zombies[-1]
        with pytest.raises(CheckpointLost):
            self.run(zombie.save(self.kept[zombie.name][0] + ahead, "zombie"))

    @rule(name=_names)
    def leave(self, name: str) -> None:
        if name in self.owners:
            self._give_back(name)

    def _give_back(self, name: str) -> None:
        """Then it may stand further on, past what a filter left out, and never past what one chooses."""
        self.run(self.owners.pop(name).__aexit__(None, None, None))
        found = self.run(self.store.get_checkpoint(name))
        assert found is not None
        position, state = self.kept[name]
        left_out = [e for e in self.model if position < e.sequence <= found.sequence]
        assert found.sequence >= position
        assert all(event.event_type != "a" for event in left_out)
        self.kept[name] = found.sequence, state

    @rule()
    def restart(self) -> None:
        if self.durable:
            self._forsake()
            self.run(self.store.close())
            self.store = type(self).open_store()

    def _forsake(self) -> None:
        for name in list(self.owners):
            self._give_back(name)
        self.zombies.clear()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.run(self._stream()) == self.model
        for event in self.model[-2:]:
            assert self.run(self.store.get_event(event.event_id)) == event
        for (key, version), (sequence, state) in self.snapshots.items():
            found = self.run(self.store.get_snapshot(key, state_version=version))
            assert found is not None
            assert (found.sequence, found.state) == (sequence, state)
        for name, (sequence, state) in self.kept.items():
            checkpoint = self.run(self.store.get_checkpoint(name))
            assert checkpoint is not None
            assert (checkpoint.sequence, checkpoint.state) == (sequence, state)
            assert (checkpoint.owner is not None) is (name in self.owners)

    async def _stream(self) -> list[RecordedEvent]:
        return [event async for event in self.store.stream()]

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self._forsake()
            self.run(self.store.close())
        self.runner.close()


def _plain(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.model_fields}


def _check(machine: type[Machine], examples: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=15,
            deadline=None,
            phases=set(Phase) - {Phase.shrink},  # a failure is shrunk by hand: each step asks a server
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_memory() -> None:
    class Memory(Machine):
        durable = False
        open_store = staticmethod(lambda: create_event_store("memory"))
        wipe = staticmethod(lambda: None)

    _check(Memory, 60)


class FileMachine(Machine):
    """Also crashes: the last write is cut off at any byte, and the index is ahead of the lines."""

    durable = True
    directory: tempfile.TemporaryDirectory[str]

    def __init__(self) -> None:
        super().__init__()
        self.last_write: tuple[Path, int, int] | None = None  # file, its size before, the model's before

    @staticmethod
    def wipe() -> None:
        FileMachine.directory = tempfile.TemporaryDirectory()

    @staticmethod
    def open_store() -> EventStore:
        # small files: most of what is read has been compressed
        directory = FileMachine.directory.name
        return create_event_store("file", directory=directory, max_size=4_096, stream_chunk=3)

    def _append(self, events: list[Event], expected: int | None) -> None:
        sizes = {}
        for path in Path(self.directory.name).glob("events-*.jsonl"):
            with suppress(FileNotFoundError):  # compressed meanwhile
                sizes[path] = path.stat().st_size
        held = len(self.model)
        super()._append(events, expected)
        if len(self.model) > held:
            written = max(Path(self.directory.name).glob("events-*.jsonl"))
            self.last_write = written, sizes.get(written, 0), held

    @precondition(lambda self: self.last_write is not None)
    @rule(cut=st.integers(0, 3_000))
    def crash(self, cut: int) -> None:
        assert self.last_write is not None
        path, before, held = self.last_write
        self._forsake()
        self.run(self.store.close())
        if path.exists():  # not compressed, so the last one
            written = path.stat().st_size - before
            os.truncate(path, before + cut % written)
            del self.model[held:]
        self.last_write = None
        self.store = self.open_store()

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


def test_file() -> None:
    _check(FileMachine, 25)


def test_postgresql(database: Database) -> None:
    class PostgreSQL(Machine):
        durable = True

        @staticmethod
        def wipe() -> None:
            asyncio.run(_empty(database))

        @staticmethod
        def open_store() -> EventStore:
            return create_event_store("postgresql", dsn=database.writer_url, stream_chunk=3, listen=False)

    _check(PostgreSQL, 12)


async def _empty(database: Database) -> None:
    """Sequences begin at 1 again: the model's numbers are small."""
    import asyncpg

    connection = await asyncpg.connect(database.admin_url, timeout=10)
    try:
        await connection.execute("TRUNCATE penstock.events, penstock.snapshots, penstock.checkpoints")
        await connection.execute("SELECT setval('penstock.event_sequence', 0, true)")
        await connection.execute("UPDATE penstock.high_water SET sequence = 0")
    finally:
        await connection.close(timeout=5)
