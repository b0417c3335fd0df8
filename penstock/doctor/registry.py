"""The schema registry: does it answer as one?"""

import httpx

from penstock.doctor.report import Finding, failed, fine, warned
from penstock.redaction import redact

__all__ = ["examine_registry"]

_NAME = "schema registry"


def examine_registry(url: str, *, timeout: float) -> list[Finding]:
    """Asks for the subjects and the compatibility level."""
    place = redact(url)
    try:
        with httpx.Client(base_url=url, timeout=timeout) as client:
            subjects, level = client.get("/subjects"), client.get("/config")
    except httpx.HTTPError as error:
        detail = f"{place} does not answer ({type(error).__name__})"
        return [
            failed(_NAME, "reachable", detail, "penstock registry, or correct PENSTOCK_SCHEMA_REGISTRY_URL")
        ]
    if subjects.status_code in (401, 403):
        detail = f"{place} answers {subjects.status_code}"
        return [failed(_NAME, "reachable", detail, "Put user and password into PENSTOCK_SCHEMA_REGISTRY_URL")]
    if subjects.status_code != 200 or not _is_list(subjects):
        detail = f"{place} answers {subjects.status_code}, but not as a schema registry"
        return [
            failed(
                _NAME, "reachable", detail, "Correct PENSTOCK_SCHEMA_REGISTRY_URL; its logs say more on a 5xx"
            )
        ]
    found = len(subjects.json())
    findings = [fine(_NAME, "reachable", f"{place} · {found} subject{'' if found == 1 else 's'}")]
    compatibility = level.json().get("compatibilityLevel") if level.status_code == 200 else None
    if compatibility == "NONE":
        advice = "Set BACKWARD: otherwise a producer can register what the worker cannot read"
        findings.append(warned(_NAME, "compatibility", "NONE", advice))
    elif compatibility:
        findings.append(fine(_NAME, "compatibility", str(compatibility)))
    return findings


def _is_list(answer: httpx.Response) -> bool:
    try:
        return isinstance(answer.json(), list)
    except ValueError:
        return False
