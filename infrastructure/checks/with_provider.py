"""Run a command of OpenTofu with a stand-in for the AWS provider: one that has its schema and nothing else.

usage: python with_provider.py <folder> <command> ...

It answers OpenTofu's plugin protocol (tfplugin6) with the schema of each kind of resource that the files below
<folder> name. So `tofu validate` checks types, functions and references as with the provider itself, and `tofu test`
with mocked resources evaluates every expression. It knows no rule for values, and can neither plan nor apply.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import provider_schema
from provider_schema import Schema

ADDRESSES = ("registry.opentofu.org/hashicorp/aws", "registry.terraform.io/hashicorp/aws")
KINDS = {"resource": 2, "data": 3, "ephemeral": 8}  # fields of GetProviderSchema.Response
LIST, SINGLE = 2, 1  # NestedBlock.NestingMode
SCALARS = {"builtins.str": "string", "jsii.Number": "number", "builtins.bool": "bool", "builtins.int": "number"}


def main(folder: Path, command: list[str]) -> int:
    response = schemas(folder)
    server = grpc.server(ThreadPoolExecutor(4))
    answers = {"GetProviderSchema": response}
    silent = ["ConfigureProvider", "ValidateProviderConfig", "ValidateResourceConfig", "ValidateDataResourceConfig"]
    answers |= dict.fromkeys([*silent, "ValidateEphemeralResourceConfig"], b"")
    methods = {name: grpc.unary_unary_rpc_method_handler(_answering(answer)) for name, answer in answers.items()}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("tfplugin6.Provider", methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address = {"Network": "tcp", "String": f"127.0.0.1:{port}"}
    attached = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": address}
    variables = {**os.environ, "TF_REATTACH_PROVIDERS": json.dumps(dict.fromkeys(ADDRESSES, attached))}
    try:
        return subprocess.run(command, env=variables, check=False).returncode
    finally:
        server.stop(None)


def _answering(answer: bytes) -> Callable[[bytes, Any], bytes]:
    return lambda request, context: answer


def schemas(folder: Path) -> bytes:
    """A GetProviderSchema.Response."""
    provider = provider_schema.schema_of("aws_provider", data=False)
    assert provider is not None
    parts = [_message(1, _message(2, _block(provider, provider.resource)))]
    texts = "\n".join(file.read_text(encoding="utf-8") for file in folder.rglob("*.tf"))
    for kind, name in sorted(set(re.findall(r'^ *(resource|data|ephemeral) "(aws_\w+)"', texts, re.MULTILINE))):
        schema = provider_schema.schema_of(name, data=kind != "resource")
        if schema is not None:
            entry = _message(1, name.encode()) + _message(2, _message(2, _block(schema, schema.resource)))
            parts.append(_message(KINDS[kind], entry))
    return b"".join(parts)


def _block(schema: Schema, arguments: str, *, computed_in: str = "") -> bytes:
    """A Schema.Block of the arguments of one class, and of the attributes that another has beside them."""
    block = schema.block(arguments)
    parts = []
    for name in sorted(block.required | block.optional):
        is_required = name in block.required
        if name in block.blocks:
            inner = block.blocks[name]
            reference = f"{inner}OutputReference"
            nested = _block(schema, inner, computed_in=reference if reference in schema.classes else "")
            nesting = _number(3, SINGLE if name == "timeouts" else LIST) + _number(4, is_required)
            parts.append(_message(3, _message(1, name.encode()) + _message(2, nested) + nesting))
        else:
            is_write_only = name.endswith("_wo")
            flags = _number(4, is_required) + _number(5, not is_required) + _number(11, is_write_only)
            flags += _number(6, not is_required and not is_write_only)
            parts.append(_message(2, _attribute(name, _type(schema, block.types[name])) + flags))
    known = block.required | block.optional
    for name, kind in schema.outputs(computed_in or arguments):
        if name not in known:
            parts.append(_message(2, _attribute(name, _type(schema, kind)) + _number(6, True)))
    return b"".join(parts)


def _attribute(name: str, kind: Any) -> bytes:
    return _message(1, name.encode()) + _message(2, json.dumps(kind).encode())


def _type(schema: Schema, annotation: ast.expr | None) -> Any:
    """The type of a value as the protocol has it, in JSON; "dynamic" where the annotation does not tell."""
    text = ast.unparse(annotation) if annotation else ""
    text = re.sub(r"^typing\.Optional\[(.*)\]$", r"\1", text)
    if reference := schema.class_in(annotation):
        fields = {name: _type(schema, kind) for name, kind in schema.outputs(reference)}
        return ["list", ["object", fields]]
    if text in SCALARS:
        return SCALARS[text]
    if found := re.match(r"typing\.(?:Sequence|List)\[([\w.]+)\]$", text):
        return ["list", SCALARS.get(found[1], "dynamic")]
    if text.endswith(".StringMap") or text.startswith("typing.Mapping[builtins.str, builtins.str]"):
        return ["map", "string"]
    return "bool" if "builtins.bool" in text or text.endswith(".IResolvable") else "dynamic"


def _message(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(payload)) + payload


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    return bytes(_septets(int(value)))


def _septets(value: int) -> Iterator[int]:
    while value > 127:
        yield value & 127 | 128
        value >>= 7
    yield value


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
