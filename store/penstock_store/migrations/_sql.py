"""SQL files of the migrations, cut into statements, because a prepared statement holds a single one."""

from __future__ import annotations

import re
from importlib.resources import files

__all__ = ["statements"]

_BIND = re.compile(r"(?<!:):(?=\w)")


def statements(name: str) -> list[str]:
    """The statements of a file beside this module. One ends with `;` at a line's end, outside of `$$ … $$`.

    Colons are escaped for sqlalchemy.text(), which takes `:word` for a parameter.
    """
    found: list[str] = []
    lines: list[str] = []
    quoted = False
    for line in (files(__package__) / "sql" / name).read_text(encoding="utf-8").splitlines():
        if not lines and (not line.strip() or line.startswith("--")):
            continue
        lines.append(line)
        if line.count("$$") % 2:
            quoted = not quoted
        if not quoted and line.endswith(";"):
            found.append(_BIND.sub(r"\\:", "\n".join(lines).removesuffix(";")))
            lines = []
    return found
