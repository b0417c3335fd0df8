"""Do the books balance: what Kafka has, what PostgreSQL accounts for, what the store holds."""

from penstock.reconcile.run import Scope, reconcile
from penstock.reconcile.verdict import Leaf, Line, Reconciliation

__all__ = ["Leaf", "Line", "Reconciliation", "Scope", "reconcile"]
