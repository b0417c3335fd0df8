"""What is made of few distinct values over and over."""

from collections.abc import Callable, Hashable
from typing import TypeVar

__all__ = ["Kept"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(dict[K, V]):
    """`kept[value]` is `make(value)`, made once until `limit` others were: at that it begins anew.

    Cheaper than `lru_cache`, which has to be called. May be shared by threads.
    """

    def __init__(self, make: Callable[[K], V], limit: int = 4096) -> None:
        super().__init__()
        self._make, self._limit = make, limit

    def __missing__(self, value: K) -> V:
        made = self._make(value)
        if len(self) >= self._limit:
            self.clear()
        self[value] = made
        return made
