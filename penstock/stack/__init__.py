"""The local stack: real servers for development, the demo and the tests.

`ensure` resolves each server on its own: address in the environment, else Docker where the daemon answers,
else started from programs on this machine. `stop` ends only what `ensure` started.
"""

from penstock.stack._apps import APPS
from penstock.stack._core import addresses, ensure, exists, stop
from penstock.stack._state import StackAddresses, find_root
from penstock.stack._status import ServerStatus, StackStatus, status
from penstock.stack.errors import MissingRequirementError, ServerStartError, StackError, StackTimeoutError
from penstock.stack.progress import Progress, Step

__all__ = [
    "APPS",
    "MissingRequirementError",
    "Progress",
    "ServerStartError",
    "ServerStatus",
    "StackAddresses",
    "StackError",
    "StackStatus",
    "StackTimeoutError",
    "Step",
    "addresses",
    "ensure",
    "exists",
    "find_root",
    "status",
    "stop",
]
