"""Moving events between stores: copy, compare, write to two at a time, switch."""

from penstock_store.moving.comparing import Comparison, compare_stores
from penstock_store.moving.copying import copy_events, plan_copy
from penstock_store.moving.journal import Migration, migrate_file_to_postgres
from penstock_store.moving.mirror import MirroredStore, MirrorStatus
from penstock_store.moving.report import CopyPlan, CopyProgress, CopyReport

__all__ = [
    "Comparison",
    "CopyPlan",
    "CopyProgress",
    "CopyReport",
    "Migration",
    "MirrorStatus",
    "MirroredStore",
    "compare_stores",
    "copy_events",
    "migrate_file_to_postgres",
    "plan_copy",
]
