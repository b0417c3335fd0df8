"""Loads the fixtures, one file per concern."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # test modules import helpers as `fixtures.<concern>`

pytest_plugins = [
    "fixtures.waiting",  # each after those it imports, as pytest rewrites asserts at a module's first import
    "fixtures.stack",
    "fixtures.databases",
    "fixtures.history",
    "fixtures.topics",
    "fixtures.tcp_proxy",
    "fixtures.private_servers",
    "fixtures.registries",
    "fixtures.logs",
    "fixtures.workers",
    "fixtures.processes",
    "fixtures.ingesting",
    "fixtures.consuming",
    "fixtures.event_stores",
]

# No deadline per example: the machine is shared with two servers. `make fuzz` chooses the second.
settings.register_profile("default", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=5_000)
settings.load_profile("default")
