"""What an examination found, in a form for people and for programs."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from penstock.redaction import redact

__all__ = ["Finding", "Status", "failed", "fine", "summary", "warned"]


class Status(StrEnum):
    """`warn` does not stop ingestion; `fail` does, or breaks a promise."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: `advice` says what to do, and is empty where nothing is to be done."""

    component: str
    check: str
    status: Status
    detail: str
    advice: str = ""


def fine(component: str, check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(component=component, check=check, status=Status.OK, detail=redact(detail))


def warned(component: str, check: str, detail: str, advice: str) -> Finding:
    """Worth a look."""
    return Finding(
        component=component, check=check, status=Status.WARN, detail=redact(detail), advice=redact(advice)
    )


def failed(component: str, check: str, detail: str, advice: str) -> Finding:
    """Does not work."""
    return Finding(
        component=component, check=check, status=Status.FAIL, detail=redact(detail), advice=redact(advice)
    )


def summary(findings: Sequence[Finding]) -> dict[str, Any]:
    """The object of `penstock doctor --json`."""
    return {
        "status": worst(findings).value,
        "counts": {status.value: sum(f.status is status for f in findings) for status in Status},
        "checks": [asdict(finding) for finding in findings],
    }


def worst(findings: Iterable[Finding]) -> Status:
    """The most severe status; ok where nothing was examined."""
    order = list(Status)
    return max((finding.status for finding in findings), key=order.index, default=Status.OK)
