"""Projections: events folded into tables of one's own, or into one value, with exactly-once effect."""

from penstock_store.projections.definition import Projection, TableProjection, ValueProjection, projection
from penstock_store.projections.rebuilding import Rebuilt, rebuild
from penstock_store.projections.runner import ProjectionRunner
from penstock_store.projections.status import ProjectionStatus, statuses

__all__ = [
    "Projection",
    "ProjectionRunner",
    "ProjectionStatus",
    "Rebuilt",
    "TableProjection",
    "ValueProjection",
    "projection",
    "rebuild",
    "statuses",
]
