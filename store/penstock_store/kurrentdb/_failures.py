"""Exceptions of kurrentdbclient and gRPC as the errors of the store: what happened, where, what to do."""

from __future__ import annotations

from typing import Final

import grpc  # type: ignore[import-untyped]
from kurrentdbclient import exceptions as theirs

from penstock_store.errors import StoreError
from penstock_store.kurrentdb.settings import KurrentSettings
from penstock_store.read_errors import InvalidQuery, ReadError, StoreRefused, StoreUnavailable
from penstock_store.store_errors import InvalidAppend

__all__ = ["CLIENT_ERRORS", "store_error"]

CLIENT_ERRORS: Final = (
    theirs.KurrentDBClientError,
    theirs.ProgrammingError,  # theirs is not below their root
    grpc.RpcError,
    grpc.aio.UsageError,
    OSError,
    TimeoutError,
    AssertionError,  # what the client makes of a server that is too old
)

_LOGIN: Final = "Correct user and password in the uri, and grant the user access to the streams."
# The first match decides: a kind comes before its root.
_MEANINGS: Final[tuple[tuple[type[BaseException], type[StoreError], str, str], ...]] = (
    (theirs.AccessDeniedError, StoreRefused, "refuses the call", _LOGIN),
    (theirs.UnauthenticatedError, StoreRefused, "refuses the login", _LOGIN),
    (
        theirs.SSLError,
        StoreRefused,
        "cannot be talked to by TLS",
        "Name the authority by TlsCaFile=… in the uri, or write tls=false for a server without TLS.",
    ),
    (
        theirs.RecordMaxSizeExceededError,
        InvalidAppend,
        "refuses an event as too large",
        "Nothing was stored: make the event smaller, or raise the server's limit.",
    ),
    (
        theirs.MaximumAppendSizeExceededError,
        InvalidAppend,
        "refuses the append as too large",
        "Nothing was stored: split the batch, or raise the server's MaxAppendSize (1 MiB by default).",
    ),
    (
        theirs.TransactionMaxSizeExceededError,
        InvalidAppend,
        "refuses the append as too large",
        "Nothing was stored: split the batch.",
    ),
    (
        theirs.StreamIsDeletedError,
        StoreRefused,
        "has the stream tombstoned",
        "A tombstone is for ever: the entity needs another id.",
    ),
    (
        theirs.StreamTombstonedError,
        StoreRefused,
        "has the stream tombstoned",
        "A tombstone is for ever: the entity needs another id.",
    ),
    (
        theirs.InvalidCommitPositionError,
        InvalidQuery,
        "knows no event at the position asked for",
        "Ask after the sequence of an event that came from this database, or after 0.",
    ),
    (theirs.DiscoveryFailedError, StoreUnavailable, "shows no node that fits", "Is the cluster up?"),
    (theirs.NodeIsNotLeaderError, StoreUnavailable, "is not the leader", "Use kurrentdb+discover://."),
    (theirs.ConsumerTooSlowError, StoreUnavailable, "ended a reader that was too slow", "Read on."),
    (theirs.AbortedByServerError, StoreUnavailable, "ended the call", "Try again in a moment."),
    (theirs.DeadlineExceededError, StoreUnavailable, "did not answer in time", "Try again in a moment."),
    (theirs.ServiceUnavailableError, StoreUnavailable, "cannot be reached", "Is it started?"),
    (theirs.InvalidArgumentError, StoreRefused, "refuses what was sent", "Please report this."),
    (theirs.BadRequestError, StoreRefused, "refuses what was sent", "Please report this."),
    (theirs.GrpcError, StoreUnavailable, "could not answer now", "Try again in a moment."),
    (theirs.UnknownError, StoreUnavailable, "could not answer now", "Try again in a moment."),
    (theirs.KurrentDBClientError, ReadError, "failed the call", "Look at the server's log."),
    (theirs.ProgrammingError, ReadError, "was not asked rightly", "Please report this."),
    (TimeoutError, StoreUnavailable, "did not answer in time", "Try again in a moment."),
    (
        AssertionError,
        StoreRefused,
        "answers in a form that is not understood",
        "EventStoreDB before 22.10 does not say where an event stands: use a newer one.",
    ),
    (OSError, StoreUnavailable, "cannot be reached", "Is it started, and the address right?"),
)
# what gRPC lets through
_OTHERWISE: Final = (StoreUnavailable, "could not answer now", "Try again in a moment.")


def store_error(error: BaseException, settings: KurrentSettings) -> StoreError:
    """What `error` means; the message holds no secret."""
    kind, said, advice = next(
        (meaning[1:] for meaning in _MEANINGS if isinstance(error, meaning[0])), _OTHERWISE
    )
    cause = settings.without_secrets(" ".join(str(error).split()))[:500]
    told = f" ({type(error).__name__}: {cause})" if cause else f" ({type(error).__name__})"
    return kind(f"KurrentDB at {settings.address} {said}{told}. {advice}")
