"""Print the path of a uv that is new enough, making one in .tools/uv where there is none.

Standard library only. Order: uv on the PATH, .tools/uv of an earlier run, a virtual environment made now.
Debian's python3 has no ensurepip: as root its package is installed, others are told what to do.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".tools" / "uv"
OWN = TOOLS / "bin" / "uv"
MINIMUM = (0, 8)  # pyproject.toml: [tool.uv] required-version


def main() -> None:
    """Find or make it."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever runs this has not installed anything yet
        sys.exit(f"Penstock needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}.")
    for candidate in (shutil.which("uv"), str(OWN)):
        if candidate and _version(candidate) >= MINIMUM:
            print(candidate)  # noqa: T201 - the answer
            return
    _make()
    print(OWN)  # noqa: T201


def _make() -> None:
    _say("uv is not installed: making one in .tools/uv")
    shutil.rmtree(TOOLS, ignore_errors=True)
    TOOLS.parent.mkdir(exist_ok=True)
    if _run([sys.executable, "-m", "venv", str(TOOLS)]) != 0:
        _install_venv()
        shutil.rmtree(TOOLS, ignore_errors=True)
        if _run([sys.executable, "-m", "venv", str(TOOLS)]) != 0:
            _give_up("python3 -m venv fails")
    if _run([str(TOOLS / "bin" / "python"), "-m", "pip", "install", "-q", "uv>=0.8"]) != 0:
        shutil.rmtree(TOOLS, ignore_errors=True)
        _give_up("pip could not install uv (is a package index reachable?)")


def _install_venv() -> None:
    """Debian keeps ensurepip in a package of its own."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        _give_up("this Python cannot make virtual environments with pip (ensurepip is missing)")
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    _say(f"installing {package} with apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-q"], environment)
    _run(["apt-get", "install", "-y", "-q", "--no-install-recommends", package], environment)


def _give_up(why: str) -> None:
    sys.exit(
        f"uv cannot be installed: {why}. Do one of these, then try again:\n"
        f"  - install uv: https://docs.astral.sh/uv/getting-started/installation/\n"
        f"  - on Debian: sudo apt-get install python3-venv"
    )


def _version(uv: str) -> tuple[int, ...]:
    try:
        said = subprocess.run(  # noqa: S603 - fixed argument
            [uv, "--version"], capture_output=True, text=True, timeout=30, check=False
        ).stdout
    except OSError:
        return ()
    match = re.search(r"(\d+)\.(\d+)", said)
    return tuple(int(part) for part in match.groups()) if match else ()


def _run(argv: list[str], environment: dict[str, str] | None = None) -> int:
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=900, check=False)  # noqa: S603
    if done.returncode != 0:
        _say("\n".join((done.stdout + done.stderr).splitlines()[-8:]))
    return done.returncode


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


main()
