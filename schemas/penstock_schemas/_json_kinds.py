"""Which JSON value an Avro type becomes, and when a union's branch has to be named beside its value."""

from penstock_schemas._avro_schema import Type

_KINDS = {
    **dict.fromkeys(("int", "long", "float", "double"), "number"),
    **dict.fromkeys(("map", "record"), "object"),
    **{kind: kind for kind in ("null", "boolean", "array")},
}


def json_kind(kind: Type) -> str:
    """null, boolean, number, string, array or object."""
    return "string" if kind.logical else _KINDS.get(kind.kind, "string")


def _told_apart(branches: list[Type]) -> bool:
    """Whether a discriminator tells these records apart: an enum of one symbol in each, all different."""
    tags: dict[str, list[str]] = {}
    for own in (own for branch in branches for own in branch.fields):
        if own.type.kind == "enum" and len(own.type.symbols) == 1:
            tags.setdefault(own.name, []).append(own.type.symbols[0])
    return any(len(found) == len(set(found)) == len(branches) for found in tags.values())


def is_tagged(union: Type) -> bool:
    """Whether the union's JSON form is `{"<branch>": value}`: two branches look alike otherwise."""
    by_kind: dict[str, list[Type]] = {}
    for branch in union.branches:
        by_kind.setdefault(json_kind(branch), []).append(branch)
    return any(len(alike) > 1 and not _told_apart(alike) for alike in by_kind.values())
