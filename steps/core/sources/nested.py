"""Fields of Arrow's structures by their paths, customer.tier, and which types a column of the contract can take."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from steps.core.errors import SourceUnreadable


def leaves(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    """Each column, and each field of a structure by its path."""
    for field in schema:
        yield field.name, field.type
        if pa.types.is_struct(field.type):
            yield from ((f"{field.name}.{path}", kind) for path, kind in leaves(pa.schema(list(field.type))))


def check_is_value(file: str, source: str, kind: pa.DataType) -> None:
    """SourceUnreadable for a column of a type that no type of the contract can take, such as a list."""
    if not is_value(kind):
        inner = [f"{source}.{field.name}" for field in kind] if pa.types.is_struct(kind) else []
        reason = f"its column {source!r} is of type {kind}, which is no type of a table's column"
        next = f"name one of {', '.join(inner)} as its source" if inner else "leave the column out of the config"
        raise SourceUnreadable(file, reason, next=f"{next}, or write another type")


def is_value(kind: pa.DataType) -> bool:
    """Whether a type of the contract can take values of this type."""
    is_other = pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType) or pa.types.is_fixed_size_binary(kind)
    return not (is_other or pa.types.is_time(kind) or pa.types.is_duration(kind) or pa.types.is_interval(kind))


def top(source: str, schema: pa.Schema) -> str:
    """The column that a field is in."""
    return source if source in schema.names else _split(source, schema.names)[0]


def leaf(rows: pa.Table, source: str) -> pa.ChunkedArray:
    """The values of a column, or of a field of a structure; null where the structure is."""
    if source in rows.column_names:
        return rows[source]
    name, rest = _split(source, rows.column_names)
    values = rows[name]
    while rest:
        names = [field.name for field in values.type]
        name, rest = (rest, "") if rest in names else _split(rest, names)
        values = pc.struct_field(values, [values.type.get_field_index(name)])
    return values


def _split(path: str, names: list[str]) -> tuple[str, str]:
    """The first of `names` that a path goes through, and the rest of the path; names may have dots themselves."""
    parts = path.split(".")
    heads = (".".join(parts[:end]) for end in range(1, len(parts)))
    return next((head, path[len(head) + 1 :]) for head in heads if head in names)
