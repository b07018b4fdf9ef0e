"""Tell what something was made of, back to its source and code, and what was made of it.

Reads   runs, Delta's log and the registry, for a table, a model, a source or a run (by default the config's newest
        predictions)
Writes  lineage.txt and lineage.json on its run; prints the first
Fails   NothingKnown, TableNotFound, TableVersionGone, ModelNotFound
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import mlflow

from steps.core import config
from steps.core.errors import LakeUndefined
from steps.core.parameters import parameters
from steps.core.tables import location, snapshot
from steps.core.workflow import step_run
from steps.core.workflow.provenance import Provenance, ProvenanceIndex, is_pinned, resolve_uris


@parameters
class LineageParameters:
    config: str = "configs/iris.yaml"
    uri: str = ""
    lake: str = ""


@dataclass(frozen=True, kw_only=True)
class Node:
    """`name` is a URI or a verdict; `also` is what else it is made of; `again` if an earlier node has the rest."""

    name: str
    making: Provenance | None = None
    also: tuple[str, ...] = ()
    again: bool = False
    nodes: tuple["Node", ...] = ()


def origin(
    uri: str, index: ProvenanceIndex, *, before: datetime | None = None, identity: str = "", told: set[tuple[str, str]]
) -> Node:
    """`uri`, used at `before` when it had `identity`, on what it was made of. Adds to `told`, which ends a circle."""
    making = index.provenance(uri, before=before, identity=identity)
    key = (uri, making.run_id if making else "")
    if key in told:
        return Node(name=uri, again=True)
    told.add(key)
    if making is None:
        return Node(name=uri)
    nodes = (
        origin(source, index, before=making.when, identity=making.identities.get(name, ""), told=told)
        for name, source in making.of.items()
    )
    return Node(name=uri, making=making, nodes=tuple(nodes))


def yields(
    name: str, making: Provenance | None, index: ProvenanceIndex, *, above: tuple[str, ...], told: set[tuple[str, str]]
) -> Node:
    """`name` under what it was made of, over what was made of it: each once, a model's predictions under the model."""
    nodes = []
    for product, made in index.products(name, making):
        if (product, made.run_id) not in told:
            told.add((product, made.run_id))
            nodes.append(yields(product, made, index, above=(*above, name), told=told))
    also = tuple(each for each in (making.of.values() if making and above else ()) if each not in above)
    return Node(name=name, making=making, also=also, nodes=tuple(nodes))


def lines(node: Node, indent: str = "") -> Iterator[str]:
    """A tree as a terminal shows it."""
    yield f"{indent}{node.name}{' (see above)' if node.again else ''}"
    indent += "  "
    if node.making:
        yield f"{indent}{_told(node.making)}"
    elif is_pinned(node.name) and not node.again:
        yield f"{indent}how it was made is not known"
    yield from (f"{indent}also of {uri}" for uri in node.also)
    for each in node.nodes:
        yield from lines(each, indent)


def _page(origins: Sequence[Node], products: Sequence[Node]) -> Iterator[str]:
    yield "What it was made of"
    for each in origins:
        yield from lines(each, "  ")
    yield "What was made of it"
    for each in products:
        yield f"  {each.name}"
        for node in each.nodes:
            yield from lines(node, "    ")
        if not each.nodes:
            yield "    nothing"


def _told(making: Provenance) -> str:
    run = making.run_id and f"run {making.run_id[:8]}"
    code = making.git_commit and f"commit {making.git_commit[:7]}"
    when = f"{making.when:%Y-%m-%d %H:%M} UTC"
    # the end of a fingerprint is what differs; lineage.json has all of it
    fingerprint = making.fingerprint and f"fingerprint {re.sub('^.+(?=.{32}$)', '...', making.fingerprint)}"
    return ", ".join(filter(None, [making.step, run, code, when, fingerprint, making.remark]))


def _predictions(given: LineageParameters) -> str:
    return f"{location.lake_root(given.lake)}/{config.load(given.config, home=location.home()).name}_predictions"


def _root(given: str) -> list[str]:
    """The lake, if there is one: with a tracking server it need not be said to look a model up."""
    try:
        return [location.lake_root(given)]
    except LakeUndefined:
        if given:
            raise
        return []


def main(argv: Sequence[str] | None = None) -> None:
    with step_run.start("lineage", LineageParameters, argv) as (parameters, run):
        uris = resolve_uris(parameters.uri or _predictions(parameters))
        run.reads(uri=", ".join(uris))

        index = ProvenanceIndex(_root(parameters.lake))
        origins = [origin(uri, index, told=set()) for uri in uris]
        for each in origins:
            if each.making is None and is_pinned(each.name):
                snapshot.open(location.parse_table(each.name))  # says what is wrong with it
        products = [yields(each.name, each.making, index, above=(), told=set()) for each in origins]

        text = "\n".join(_page(origins, products))
        mlflow.log_text(text + "\n", "lineage.txt")
        trees = {"made_of": [asdict(each) for each in origins], "made": [asdict(each) for each in products]}
        mlflow.log_text(json.dumps(trees, indent=2, default=datetime.isoformat), "lineage.json")
        print(text)


if __name__ == "__main__":
    main()
