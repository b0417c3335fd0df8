"""What an event says, in 16 bytes."""

from collections.abc import Callable
from hashlib import blake2b
from struct import Struct

from penstock_schemas._kept import Kept

__all__ = ["begun_hash", "content_hash", "hashed_size"]


def content_hash(event_type: str, entity_id: str, payload: bytes) -> bytes:
    """BLAKE2b-128 over type, entity and canonical payload, each after its length (4 bytes, big-endian).

    Id and time do not count: a retry has new ones. The lengths keep ("ab", "c") and ("a", "bc") apart.
    """
    entity = entity_id.encode()
    state = begun_hash[event_type]()
    state.update(b"".join((hashed_size(len(entity)), entity, hashed_size(len(payload)), payload)))
    return state.digest()


hashed_size = Struct(">I").pack


def _begin(event_type: str) -> Callable[[], blake2b]:
    kind = event_type.encode()
    return blake2b(hashed_size(len(kind)) + kind, digest_size=16).copy


begun_hash = Kept(_begin)
"""By event type, what makes copies of the hash as it is behind it, for half of the price of a new one."""
