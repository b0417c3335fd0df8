"""Our events as KurrentDB's and back, errors as ours, names of streams: laws that hold without a server."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

import grpc  # type: ignore[import-untyped]
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kurrentdbclient import RecordedEvent as Stored
from kurrentdbclient import exceptions as theirs

from penstock_schemas import Event
from penstock_schemas._text import canonical_json
from penstock_schemas.fields import EventFields
from penstock_store._recorded import instant
from penstock_store.errors import StoreError
from penstock_store.kurrentdb._failures import store_error
from penstock_store.kurrentdb._mapping import Unreadable, entity_stream, new_event, read_event, tenant_prefix
from penstock_store.kurrentdb.settings import KurrentSettings
from penstock_store.read_errors import InvalidQuery, StoreRefused, StoreUnavailable
from penstock_store.store_errors import InvalidAppend

_TEXT = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=30
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)
_EVENTS = st.builds(
    Event,
    event_type=_TEXT.filter(lambda text: not text.startswith("$")),
    entity_id=_TEXT,
    tenant_id=_TEXT,
    payload=st.dictionaries(_TEXT, _JSON, max_size=4),
    metadata=st.dictionaries(_TEXT.filter(lambda key: key != "tags"), _JSON, max_size=3),
    occurred_at=st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999).map(instant),
    actor_type=st.none() | _TEXT,
    actor_id=st.none() | _TEXT,
    correlation_id=_TEXT,
    causation_id=st.none() | _TEXT,
    schema_version=st.integers(1, 2**31 - 1),
    idempotency_key=_TEXT,
)
_NOW = datetime(2026, 11, 21, tzinfo=UTC)


def _stored(event: Event, position: int = 137) -> Stored:
    new = new_event(EventFields.of(event))
    return Stored(
        type=new.type,
        data=new.data,
        metadata=new.metadata,
        content_type=new.content_type,
        id=new.id,
        stream_name=entity_stream("penstock", event.tenant_id, event.entity_id),
        stream_position=0,
        commit_position=position,
        prepare_position=position,
        recorded_at=_NOW,
    )


@given(_EVENTS, st.integers(1, 2**63 - 1))
def test_an_event_comes_back_as_it_was(event: Event, position: int) -> None:
    read = read_event(_stored(event, position))
    documents = {"payload", "metadata"}
    for name in Event.model_fields.keys() - documents:
        assert getattr(read, name) == getattr(event, name)
    for name in documents:
        assert canonical_json(getattr(read, name)) == canonical_json(getattr(event, name))
    assert (read.sequence, read.recorded_at, read.content_hash) == (position, _NOW, event.content_hash)


@given(_EVENTS)
def test_kurrentdb_finds_correlation_and_causation_under_its_own_names(event: Event) -> None:
    metadata = json.loads(new_event(EventFields.of(event)).metadata)
    assert metadata["$correlationId"] == event.correlation_id
    assert metadata.get("$causationId") == event.causation_id


@given(_EVENTS, st.binary(max_size=80), st.sampled_from(["data", "metadata"]))
def test_what_is_not_what_was_stored_is_never_taken_for_it(event: Event, other: bytes, where: str) -> None:
    stored = _stored(event)
    changed = replace(stored, **{where: other})  # type: ignore[arg-type]
    try:
        read = read_event(changed)
    except Unreadable:
        return
    assert read.payload_json == event.payload_json


@pytest.mark.parametrize(
    "metadata", [b"", b"[]", b"null", b"{}", b'{"penstock":2}', b'{"penstock":1,"content_hash":5}', b"\xff"]
)
def test_an_event_of_others_is_unreadable_and_says_why(metadata: bytes) -> None:
    stored = replace(_stored(Event(event_type="a", entity_id="b")), metadata=metadata)
    with pytest.raises(Unreadable, match=r"."):
        read_event(stored)


def test_a_type_of_the_systems_is_refused() -> None:
    with pytest.raises(InvalidAppend, match=r"\$metadata"):
        new_event(EventFields.of(Event(event_type="$metadata", entity_id="e")))


@given(_TEXT, _TEXT, _TEXT, _TEXT)
def test_a_stream_belongs_to_one_entity(tenant: str, entity: str, tenant2: str, entity2: str) -> None:
    one, other = (entity_stream("c", *pair) for pair in ((tenant, entity), (tenant2, entity2)))
    assert (one == other) is ((tenant, entity) == (tenant2, entity2))
    assert one.startswith(tenant_prefix("c", tenant))
    assert one.startswith(tenant_prefix("c", tenant2)) is (tenant == tenant2)
    assert one.partition("-")[0] == "c"  # KurrentDB's category


_ERRORS: list[tuple[BaseException, type[StoreError]]] = [
    (theirs.AccessDeniedError(), StoreRefused),
    (theirs.UnauthenticatedError("who?"), StoreRefused),
    (theirs.SSLError("certificate verify failed"), StoreRefused),
    (theirs.ServiceUnavailableError("failed to connect"), StoreUnavailable),
    (theirs.GrpcDeadlineExceededError(), StoreUnavailable),
    (theirs.AppendDeadlineExceededError(), StoreUnavailable),
    (theirs.DiscoveryFailedError("no leader"), StoreUnavailable),
    (theirs.LeaderNotFoundError(), StoreUnavailable),
    (theirs.NodeIsNotLeaderError("no"), StoreUnavailable),
    (theirs.ConsumerTooSlowError(), StoreUnavailable),
    (theirs.InternalError("oops"), StoreUnavailable),
    (theirs.UnknownError(), StoreUnavailable),
    (theirs.MaximumAppendSizeExceededError("1048576"), InvalidAppend),
    (theirs.TransactionMaxSizeExceededError(size=2, max_size=1), InvalidAppend),
    (theirs.StreamIsDeletedError("s"), StoreRefused),
    (theirs.StreamTombstonedError(stream_name="s"), StoreRefused),
    (theirs.InvalidCommitPositionError("x"), InvalidQuery),
    (theirs.ProgrammingError("x"), StoreError),
    (theirs.AlreadyExistsError("x"), StoreError),
    (grpc.RpcError("x"), StoreUnavailable),
    (ConnectionRefusedError("x"), StoreUnavailable),
    (TimeoutError(), StoreUnavailable),
    (AssertionError("no_position"), StoreRefused),
]


@pytest.mark.parametrize(("error", "kind"), _ERRORS, ids=lambda value: type(value).__name__)
def test_an_error_becomes_ours_with_what_to_do(error: BaseException, kind: type[StoreError]) -> None:
    said = store_error(error, KurrentSettings(uri="kurrentdb://ann:s3cret@h:2113?tls=false"))
    assert isinstance(said, kind)
    assert str(said).startswith("KurrentDB at kurrentdb://h:2113 ")
    assert str(said).endswith((".", "?"))


@given(
    st.text(
        st.characters(min_codepoint=33, max_codepoint=0x2FF, blacklist_characters="@/?#[]:\\"), min_size=6
    )
)
def test_no_error_shows_the_password(password: str) -> None:
    uri = f"esdb+discover://ann:{quote(password, safe='')}@cluster.example:2113?tlsVerifyCert=false"
    settings = KurrentSettings(uri=uri)
    assume(quote(password, safe="") not in repr(KurrentSettings(uri="esdb+discover://cluster.example:2113")))
    for text in (uri, settings.connection_string, f"login {password} failed", quote(password, safe="")):
        said = str(store_error(theirs.ServiceUnavailableError(text), settings))
        told = said.removeprefix(f"KurrentDB at {settings.address} ")
        assert password not in told.partition("(ServiceUnavailableError: ")[2].rpartition("). ")[0]
    assert quote(password, safe="") not in repr(settings) + settings.address
