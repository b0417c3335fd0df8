"""What the plain backends, and moving between them, bring into a process: nothing of a server."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("backend", ["file", "memory", "moving"])
def test_what_needs_no_server_loads_no_driver(backend: str) -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, penstock_store.{backend};"
            " print([name for name in sys.modules if name.split('.')[0] in ('asyncpg', 'sqlalchemy')])",
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert loaded.stdout.strip() == "[]"
