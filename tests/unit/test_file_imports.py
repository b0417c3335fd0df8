"""What the plain backends bring into a process: nothing of a server they do not have."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("backend", ["file", "memory"])
def test_a_backend_without_a_server_loads_no_driver(backend: str) -> None:
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
