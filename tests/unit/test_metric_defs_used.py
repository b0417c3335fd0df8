"""A metric that is defined is produced by somebody: a dashboard may name it."""

from pathlib import Path

from penstock_schemas import metric_defs

ROOT = Path(__file__).parents[2]


def test_every_metric_has_a_producer() -> None:
    sources = "\n".join(
        file.read_text()
        for folder in ("penstock", "producer", "store", "consumer")
        for file in (ROOT / folder).rglob("*.py")
    )
    names = {name for name in metric_defs.__all__ if hasattr(getattr(metric_defs, name), "help")}
    assert names
    assert [name for name in sorted(names) if name not in sources] == []
