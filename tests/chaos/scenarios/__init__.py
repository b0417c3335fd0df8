"""Every scenario by name."""

from chaos.scenarios import disks, links, records, servers, workers
from chaos.scenarios.scenario import Scenario

__all__ = ["SCENARIOS"]

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for module in (workers, servers, links, records, disks)
    for scenario in module.SCENARIOS
}
