"""One fuzzing process: `python -m fuzz.run <libFuzzer's options> corpus`. Needs atheris on the path."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["penstock_schemas", "penstock_store.ingest.rows"]):
    from fuzz.targets import try_input

if __name__ == "__main__":
    atheris.Setup(sys.argv, try_input)
    atheris.Fuzz()
