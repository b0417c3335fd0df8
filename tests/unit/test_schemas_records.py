"""The functions made for records: every way through their source. fastavro is the oracle of the bytes."""

import io
import json
from types import MappingProxyType
from typing import Any

import fastavro
import pytest

from penstock_schemas import InvalidEvent
from penstock_schemas.json_form import JsonForm

FIELDS = {
    "text": "string",
    "whole": "long",
    "maybe_text": ["null", "string"],
    "text_first": ["string", "null"],
    "maybe_whole": ["null", "long"],
    "either": ["null", "long", "string"],
    "real": "double",
    "name": "string",
    "out": "string",
    "record": {"type": "record", "name": "Inner", "fields": [{"name": "value_0", "type": "string"}]},
}
"""Also the names that the source itself uses."""
SCHEMA = {
    "type": "record",
    "name": "Outer",
    "fields": [{"name": name, "type": kind} for name, kind in FIELDS.items()],
}
VALUE: dict[str, Any] = {
    "text": "a",
    "whole": 1,
    "maybe_text": None,
    "text_first": None,
    "maybe_whole": None,
    "either": None,
    "real": 1.5,
    "name": "b",
    "out": "c",
    "record": {"value_0": "d"},
}
FORM = JsonForm(json.dumps(SCHEMA))
PARSED = fastavro.parse_schema(SCHEMA)


@pytest.mark.parametrize("text", ["", "é", "x" * 2_047, "x" * 2_048, "\U0001f409" * 600])
def test_texts(text: str) -> None:
    check(VALUE | {"text": text, "maybe_text": text, "text_first": text, "either": text})


@pytest.mark.parametrize("bits", range(64))
def test_whole_numbers(bits: int) -> None:
    for number in ((1 << bits) - 1, -(1 << bits), (1 << bits) // 2):
        check(VALUE | {"whole": number, "maybe_whole": number, "either": number})


def test_a_mapping_that_is_no_dict_is_written_alike() -> None:
    assert FORM.write(MappingProxyType(VALUE)) == FORM.write(VALUE)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"text": None}, "text: is None (NoneType), not a string"),
        ({"whole": True}, "whole: is True (bool), not an integer"),
        ({"maybe_whole": 1 << 63}, "maybe_whole: is 9223372036854775808, which does not fit into 64 bits"),
        ({"text_first": 7}, "text_first: is 7 (int), not a string"),
        ({"record": {"value_0": "\ud800"}}, "record.value_0: 'utf-8' codec can't encode"),
        ({"record": {"value_1": "d"}}, "record.value_1: is unknown to the schema; it has value_0"),
        ({"record": {}}, "record.value_0: is missing, and has no default"),
        ({"record": ["d"]}, "record: is ['d'] (list), not an object"),
    ],
)
def test_a_fault_names_its_place(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidEvent) as raised:
        FORM.write(VALUE | changed)
    assert str(raised.value).startswith(said)


def test_a_field_of_another_name_among_as_many() -> None:
    renamed = {("titel" if name == "text" else name): value for name, value in VALUE.items()}
    with pytest.raises(InvalidEvent, match="titel: is unknown to the schema; it has either, maybe_text"):
        FORM.write(renamed)


def check(value: dict[str, Any]) -> None:
    raw = io.BytesIO()
    fastavro.schemaless_writer(raw, PARSED, value)
    assert FORM.write(value) == (raw.getvalue(), value)
