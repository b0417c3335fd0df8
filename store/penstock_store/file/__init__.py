"""Events as lines of JSON in a directory, each with a checksum, with an index that can be made again."""

from typing import Any

from penstock_store.backends import takes
from penstock_store.file.settings import FileSettings
from penstock_store.file.store import FileEventStore

__all__ = ["FileEventStore", "FileSettings", "create"]


@takes(FileSettings)
def create(**settings: Any) -> FileEventStore:
    """The entry point `file`; takes the fields of `FileSettings`."""
    return FileEventStore(FileSettings(**settings))
