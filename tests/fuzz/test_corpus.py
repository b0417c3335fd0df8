"""The fuzzer's corpus, replayed without it: its seeds, and every input that once did harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import seeds
from fuzz.targets import SCHEMAS, VALUE, _outcome, try_input
from penstock_schemas.decoder import Decoder
from penstock_schemas.fields import EventFields

CORPUS = sorted(seeds.CORPUS.iterdir())


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_an_input_does_no_harm(file: Path) -> None:
    data = file.read_bytes()
    try_input(data)
    for end in range(0, len(data), max(1, len(data) // 50)):  # nor does any beginning of it
        try_input(data[:end])


@pytest.mark.parametrize("kind", range(len(SCHEMAS)))
def test_a_seed_of_each_schema_is_an_event(kind: int) -> None:
    """A corpus that only gets refusals would exercise nothing."""
    decoder = Decoder()
    decoder.add_schema(kind, SCHEMAS[kind])
    found = [
        _outcome(decoder.decode, b"\0" + kind.to_bytes(4, "big") + data[1:])
        for data in (file.read_bytes() for file in CORPUS)
        if data[0] == kind < VALUE
    ]
    assert any(isinstance(one, EventFields) for one in found)
