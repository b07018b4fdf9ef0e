"""Types and limits in words, from the JSON schema that pydantic gives of what it checks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel

KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": ""}
TIMES = {"date": "date", "date-time": "timestamp"}
LIMITS = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}


@dataclass(frozen=True)
class SchemaWords:
    """`schema` is of a class; `places` has the section of each model that it refers to, by the model's name."""

    schema: Mapping[str, Any]
    places: Mapping[str, str]

    def of(self, name: str) -> str:
        """What values fit the property `name`."""
        return self._words(self.schema["properties"][name])

    def _words(self, schema: Mapping[str, Any]) -> str:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if path := self.places.get(name):
                return f"[`{path}`](#{anchor(path)})"
            return self._words(self.schema["$defs"][name])
        if "anyOf" in schema:
            return " or ".join(dict.fromkeys(words for each in schema["anyOf"] if (words := self._words(each))))
        if "enum" in schema:
            return ", ".join(f"`{value}`" for value in schema["enum"])
        if "const" in schema:
            return f"`{schema['const']}`"
        if schema.get("type") == "array":
            return f"list of {self._words(schema['items'])}"
        if schema.get("type") == "object":
            return f"mapping of names to {self._words(schema['additionalProperties'])}"
        if schema.get("format") in TIMES:
            return TIMES[schema["format"]]
        limits = [words.format(f"{schema[key]:,}") for key, words in LIMITS.items() if key in schema]
        return " ".join([KINDS[schema["type"]], *limits])


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub and the site have it."""
    return "".join(letter for letter in heading.lower() if letter.isalnum() or letter in "_-")


def models_in(annotation: Any) -> Iterator[tuple[type[BaseModel], bool]]:
    """The models that an annotation has, each with whether it is that of a mapping's values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, False
    for argument in get_args(annotation):
        for model, is_mapping in models_in(argument):
            yield model, is_mapping or get_origin(annotation) is dict
