"""Install the producer's wheel alone in a bare environment: it must import, and bring no store along.

Usage: light_producer.py UV. Run from the checkout's root; versions are those of uv.lock.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

FORBIDDEN = (
    "alembic",
    "asyncpg",
    "fastapi",
    "penstock",
    "penstock_consumer",
    "penstock_store",
    "sqlalchemy",
    "uvicorn",
)
CHECK = """
import importlib.util, sys
import penstock_producer, penstock_schemas
found = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
sys.exit(f"installed along with the producer: {', '.join(found)}" if found else 0)
"""


def main(uv: str) -> None:
    """Build, install, import, look."""
    with tempfile.TemporaryDirectory(prefix="penstock-wheel-") as name:
        folder = Path(name)
        for package in ("penstock-schemas", "penstock-producer"):
            _run(uv, "build", "--quiet", "--wheel", "--package", package, "--out-dir", str(folder / "wheels"))
        constraints = folder / "constraints.txt"
        _run(uv, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-workspace", "--no-hashes",
             "--package", "penstock-producer", "--output-file", str(constraints))  # fmt: skip
        _run(uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(folder / "bare"))
        python = folder / "bare" / "bin" / "python"
        wheels = sorted(str(wheel) for wheel in (folder / "wheels").glob("*.whl"))
        _run(
            uv,
            "pip",
            "install",
            "--quiet",
            "--python",
            str(python),
            "--constraints",
            str(constraints),
            *wheels,
        )
        # -I: neither the working folder nor PYTHONPATH, so that only what was installed is found
        _run(str(python), "-I", "-c", CHECK, *FORBIDDEN)
    print("The producer's wheel imports in a bare environment, without any store dependency.")  # noqa: T201


def _run(*argv: str) -> None:
    done = subprocess.run(argv, timeout=600, check=False)  # noqa: S603
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(argv[:4])} …")


main(sys.argv[1])
