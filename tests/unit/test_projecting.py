"""The projection process over the memory store."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from fixtures.waiting import wait_for_async
from penstock import projecting
from penstock_schemas import Event, RecordedEvent
from penstock_store.memory import MemoryEventStore
from penstock_store.projections import projection
from penstock_store.read_errors import StoreRefused


@projection("counted", initial=0)
def counted(count: int, _event: RecordedEvent) -> int:
    return count + 1


class Refusing(MemoryEventStore):
    """Refuses its figures at first."""

    asked = 0

    async def get_metrics(self) -> Any:
        self.asked += 1
        if self.asked == 1:
            raise StoreRefused("permission denied")
        return await super().get_metrics()


async def test_lag_is_measured_again_after_the_store_refused_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projecting, "_LOOK", 0.01)
    store, registry = Refusing(), CollectorRegistry()
    await store.append(Event(event_type="order.placed", entity_id="42"))
    process = projecting.ProjectionProcess(store, [counted], registry)
    running = asyncio.create_task(process.run())
    position = {"projection": "counted"}
    await wait_for_async(
        lambda: registry.get_sample_value("penstock_projection_position", position) == 1,
        10,
        "the position to be measured",
    )
    process.stop()
    await running
