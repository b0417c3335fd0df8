"""Background processes that outlive the command that started them, and their safe ending.

A process id alone is no identity: the system reuses it. A record keeps the start time too, and only a process
with both is ever signalled.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from penstock.stack.errors import ServerStartError, StackError

__all__ = ["ProcessRecord", "forget", "is_running", "log_tail", "spawn", "terminate"]

_POLL_S = 0.05
_KILL_WAIT_S = 10.0

_children: set[int] = set()  # those of this very process: they are reaped here, not left as zombies


class ProcessRecord(BaseModel):
    """A process that we started: `started` is the system's start mark of that pid, `log` where it writes."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: str
    log: Path


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    user: str | int | None = None,
    group: str | int | None = None,
) -> ProcessRecord:
    """Start `argv` in a session of its own (no terminal's Ctrl-C reaches it), output appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
        child = subprocess.Popen(  # noqa: S603 - fixed programs, no shell
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=[] if user is not None else None,
        )
    _children.add(child.pid)
    child.returncode = 0  # it is meant to outlive us: without this Popen warns of it when we end
    started = _start_mark(child.pid)
    if started is None:
        raise ServerStartError(f"{argv[0]} ended at once. The end of {log}:\n{log_tail(log)}")
    return ProcessRecord(pid=child.pid, started=started, log=log)


def forget(process: ProcessRecord) -> None:
    """For those who keep no record of what was spawned."""


def is_running(process: ProcessRecord) -> bool:
    """Whether this very process is alive: same pid, same start, no zombie."""
    _reap(process.pid)
    return _start_mark(process.pid) == process.started


def terminate(process: ProcessRecord, *, signals: Sequence[signal.Signals], grace_s: float) -> bool:
    """Send each signal in turn, waiting `grace_s` after each, then SIGKILL; false when it was not running."""
    if not is_running(process):
        return False
    for number, wait_s in [*((s, grace_s) for s in signals), (signal.SIGKILL, _KILL_WAIT_S)]:
        if _signal(process, number) and _wait_gone(process, wait_s):
            return True
    if is_running(process):
        raise StackError(f"Process {process.pid} did not end even on SIGKILL; its log is {process.log}.")
    return True


def log_tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log, or a note that there is none."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"  (cannot be read: {error.strerror})"
    return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:]) or "  (empty)"


def _signal(process: ProcessRecord, number: signal.Signals) -> bool:
    if not is_running(process):
        return True
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return True
    except PermissionError as error:
        raise StackError(
            f"Process {process.pid} belongs to another user; stop it as that user, or as root."
        ) from error
    return True


def _wait_gone(process: ProcessRecord, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _reap(pid: int) -> None:
    if pid not in _children:
        return
    try:
        ended, _ = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        ended = pid
    if ended:
        _children.discard(pid)


def _start_mark(pid: int) -> str | None:
    """A text that another process with the same pid would not have; none when there is no such process."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None if Path("/proc/self").exists() else _start_mark_by_ps(pid)
    state, start_ticks = fields[0], fields[19]  # fields 3 and 22 of proc(5)
    if state in "ZX":
        return None
    return f"{_boot_id()}/{start_ticks}"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "boot"


def _start_mark_by_ps(pid: int) -> str | None:
    """For systems without /proc (macOS)."""
    answer = subprocess.run(  # noqa: S603
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=5,
        check=False,
    ).stdout.split(maxsplit=1)
    return answer[1].strip() if len(answer) == 2 and not answer[0].startswith("Z") else None
