"""Trees of lineage: what a URI was made of, back to its source and code, and what was made of it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from steps.core.workflow.provenance import Provenance, ProvenanceIndex, is_pinned


@dataclass(frozen=True, kw_only=True)
class Node:
    """A URI or a verdict in a tree of lineage."""

    name: str
    provenance: Provenance | None = None
    other_inputs: tuple[str, ...] = ()  # what it is made of beside the nodes above it
    is_shown_above: bool = False  # an earlier node has the rest
    is_gone: bool = False  # it is no longer there, and nothing tells how it was made
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
        return Node(name=uri, is_gone=is_pinned(uri) and not index.is_there(uri))
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
        yield f"{indent}{'it is no longer there, and ' if node.is_gone else ''}how it was made is not known"
    yield from (f"{indent}also of {uri}" for uri in node.other_inputs)
    for child in node.nodes:
        yield from lines(child, indent)


def page(origins: Sequence[Node], products: Sequence[Node]) -> Iterator[str]:
    """The lines of the page that lineage prints: origins, then products, each as a tree."""
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
