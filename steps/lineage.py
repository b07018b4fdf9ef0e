"""Show what something was made of, back to its source and code, and what was made of it.

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
from steps.core.workflow import entry_point
from steps.core.workflow.provenance import Provenance, ProvenanceIndex, is_pinned, resolve_uris
from steps.core.workflow.step_spec import StepSpec


@parameters
class LineageParameters:
    config: str = "configs/iris.yaml"
    uri: str = ""
    lake: str = ""


SPEC = StepSpec(name="lineage", parameters=LineageParameters)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A URI or a verdict in a tree of lineage."""

    name: str
    provenance: Provenance | None = None
    other_inputs: tuple[str, ...] = ()  # what it is made of beside the nodes above it
    is_shown_above: bool = False  # an earlier node has the rest
    nodes: tuple["Node", ...] = ()


def upstream(
    uri: str,
    index: ProvenanceIndex,
    *,
    used_at: datetime | None = None,
    identity: str = "",
    shown: set[tuple[str, str]],
) -> Node:
    """What `uri` was made of, as it was when used. Adds each URI and its run to `shown`, which ends a circle."""
    provenance = index.provenance(uri, used_at=used_at, identity=identity)
    key = (uri, provenance.run_id if provenance else "")
    if key in shown:
        return Node(name=uri, is_shown_above=True)
    shown.add(key)
    if provenance is None:
        return Node(name=uri)
    nodes = (
        upstream(
            input_uri,
            index,
            used_at=provenance.when,
            identity=provenance.input_identities.get(name, ""),
            shown=shown,
        )
        for name, input_uri in provenance.inputs.items()
    )
    return Node(name=uri, provenance=provenance, nodes=tuple(nodes))


def downstream(
    name: str,
    provenance: Provenance | None,
    index: ProvenanceIndex,
    *,
    above: tuple[str, ...] = (),
    shown: set[tuple[str, str]],
) -> Node:
    """What was made of `name`, each product once: a model's predictions stand under the model. `above` are the names
    on the way to it."""
    nodes = []
    for product, product_provenance in index.products(name, provenance):
        key = (product, product_provenance.run_id)
        if key not in shown:
            shown.add(key)
            nodes.append(downstream(product, product_provenance, index, above=(*above, name), shown=shown))
    inputs = provenance.inputs.values() if provenance and above else ()
    others = tuple(uri for uri in inputs if uri not in above)
    return Node(name=name, provenance=provenance, other_inputs=others, nodes=tuple(nodes))


def lines(node: Node, indent: str = "") -> Iterator[str]:
    """A tree as a terminal shows it."""
    yield f"{indent}{node.name}{' (see above)' if node.is_shown_above else ''}"
    indent += "  "
    if node.provenance:
        yield f"{indent}{_in_words(node.provenance)}"
    elif is_pinned(node.name) and not node.is_shown_above:
        yield f"{indent}how it was made is not known"
    yield from (f"{indent}also of {uri}" for uri in node.other_inputs)
    for child in node.nodes:
        yield from lines(child, indent)


def _page(origins: Sequence[Node], products: Sequence[Node]) -> Iterator[str]:
    yield "What it was made of"
    for origin in origins:
        yield from lines(origin, "  ")
    yield "What was made of it"
    for product in products:
        yield f"  {product.name}"
        for child in product.nodes:
            yield from lines(child, "    ")
        if not product.nodes:
            yield "    nothing"


def _in_words(provenance: Provenance) -> str:
    run = provenance.run_id and f"run {provenance.run_id[:8]}"
    code = provenance.git_commit and f"commit {provenance.git_commit[:7]}"
    when = f"{provenance.when:%Y-%m-%d %H:%M} UTC"
    # the end of a fingerprint is what differs; lineage.json has all of it
    fingerprint = provenance.fingerprint and f"fingerprint {re.sub('^.+(?=.{32}$)', '...', provenance.fingerprint)}"
    return ", ".join(filter(None, [provenance.step, run, code, when, fingerprint, provenance.remark]))


def _predictions(parameters: LineageParameters) -> str:
    settings = config.load(parameters.config, home=location.home())
    return f"{location.root(parameters.lake)}/{settings.name}_predictions"


def _lakes(lake: str) -> list[str]:
    """The lake, if there is one: with a tracking server it need not be given to look a model up."""
    try:
        return [location.root(lake)]
    except LakeUndefined:
        if lake:
            raise
        return []


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        uris = resolve_uris(parameters.uri or _predictions(parameters))
        run.reads(uri=", ".join(uris))

        index = ProvenanceIndex(_lakes(parameters.lake))
        origins = [upstream(uri, index, shown=set()) for uri in uris]
        for origin in origins:
            if origin.provenance is None and is_pinned(origin.name):
                snapshot.open_table(location.table_uri(origin.name))  # raises what is wrong with it
        products = [downstream(origin.name, origin.provenance, index, shown=set()) for origin in origins]

        text = "\n".join(_page(origins, products))
        mlflow.log_text(text + "\n", "lineage.txt")
        trees = {"made_of": [asdict(node) for node in origins], "made": [asdict(node) for node in products]}
        mlflow.log_text(json.dumps(trees, indent=2, default=datetime.isoformat), "lineage.json")
        print(text)


if __name__ == "__main__":
    main()
