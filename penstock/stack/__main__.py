"""`python -m penstock.stack`: fetch and install what native servers need, without starting any.

`make test` does this first, as a test's deadline is too short for a download.
"""

import os
import sys

from penstock.stack._docker import find_compose
from penstock.stack._environment import given_kafka, given_postgresql
from penstock.stack._kafka import fetch_jars
from penstock.stack._requirements import require_java, require_postgresql
from penstock.stack._state import stack_folder
from penstock.stack.errors import StackError


def _report(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - for the person at the terminal


def _prepare() -> None:
    if find_compose(stack_folder("local")) is not None:
        return  # images are fetched by Docker
    if given_kafka(os.environ) is None:
        require_java(_report)
        fetch_jars(_report)
    if given_postgresql(os.environ) is None:
        require_postgresql(_report)


try:
    _prepare()
except StackError as error:
    sys.exit(str(error))
