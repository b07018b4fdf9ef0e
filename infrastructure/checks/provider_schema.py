"""The AWS provider's schema, as packaged for Python in cdktf-cdktf-provider-aws.

The package's classes need Node.js to be imported, so their source is parsed: a resource is the class whose constructor
takes `scope`, a block the class that an argument's type names, and an attribute each property.
"""

import ast
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# Arguments of every resource, which are OpenTofu's own.
META_ARGUMENTS = frozenset({"count", "depends_on", "for_each", "lifecycle", "provider", "provisioners", "connection"})


@dataclass(frozen=True)
class Block:
    """The arguments of a resource or of a block in it, and which of them are blocks."""

    required: frozenset[str]
    optional: frozenset[str]
    blocks: dict[str, str]  # argument: its class
    types: dict[str, ast.expr | None]


@dataclass(frozen=True)
class Schema:
    """Of one kind of resource or data source."""

    classes: dict[str, ast.ClassDef]
    resource: str  # its class

    def block(self, name: str) -> Block:
        """The arguments that the class `name` takes, but for those that every resource has."""
        constructor = _constructor(self.classes[name])
        arguments = {argument.arg.rstrip("_"): argument.annotation for argument in constructor.args.kwonlyargs}
        own = {key: kind for key, kind in arguments.items() if key not in META_ARGUMENTS}
        optional = {key for key, kind in own.items() if kind and ast.unparse(kind).startswith("typing.Optional")}
        blocks = {key: block for key, kind in own.items() if (block := self.class_in(kind))}
        return Block(frozenset(own) - optional, frozenset(optional), blocks, own)

    def outputs(self, name: str) -> list[tuple[str, ast.expr | None]]:
        """What can be read of the class `name`, with its types, but for what the package has for itself."""
        properties = _properties(self.classes[name])
        return [
            (key, kind) for key, kind in properties.items() if not key.endswith("_input") and key != "internal_value"
        ]

    def class_in(self, annotation: ast.expr | None) -> str | None:
        """The class that a type names, as the one that has its attributes where there is one."""
        names = [node.value for node in ast.walk(annotation) if isinstance(node, ast.Constant)] if annotation else []
        names += [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)] if annotation else []
        for name in map(str, names):
            reference = name.removesuffix("List") + "OutputReference"
            if name.endswith("List") and reference in self.classes:
                return reference
            if name in self.classes:
                return name
        return None


@cache
def schema_of(kind: str, *, data: bool) -> Schema | None:
    """Of `aws_...`, None when the provider has no such kind."""
    folder = _package() / (f"data_{kind}" if data else kind.removeprefix("aws_"))
    if not (folder / "__init__.py").exists():
        return None
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    takes_scope = [name for name, node in classes.items() if _takes_scope(node)]
    return Schema(classes, takes_scope[0])


def _package() -> Path:
    spec = find_spec("cdktf_cdktf_provider_aws")
    assert spec is not None, "cdktf-cdktf-provider-aws is not installed"
    return Path(spec.submodule_search_locations[0])  # type: ignore[index]


def _constructor(node: ast.ClassDef) -> ast.FunctionDef:
    return next(part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__")


def _takes_scope(node: ast.ClassDef) -> bool:
    functions = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    return any(argument.arg == "scope" for function in functions for argument in function.args.args)


def _properties(node: ast.ClassDef) -> dict[str, ast.expr | None]:
    found: dict[str, ast.expr | None] = {}
    for part in node.body:
        decorators = [ast.unparse(decorator) for decorator in getattr(part, "decorator_list", [])]
        if isinstance(part, ast.FunctionDef) and "builtins.property" in decorators:
            found[part.name.rstrip("_")] = part.returns
    return found
