"""Show what something was made of, back to its source and code, and what was made of it.

Reads   runs, Delta's log and the registry, for a table, a model, a source or a run (by default the config's newest
        predictions)
Writes  lineage.txt and lineage.json on its run; prints the first
Fails   NothingKnown, TableNotFound, TableVersionGone, ModelNotFound. What is gone is told, where something is known
        of it: how it was made, what was made of it, or the run that handed it on
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

import mlflow

from steps.core.errors import LakeUndefined, NothingKnown
from steps.core.models import registry
from steps.core.parameters import parameters
from steps.core.tables import location, snapshot
from steps.core.tracking import config_files, runs
from steps.core.workflow import entry_point, run_tags
from steps.core.workflow.lineage_tree import downstream, page, upstream
from steps.core.workflow.provenance import MODEL, SOURCE, ProvenanceIndex, is_pinned
from steps.core.workflow.step_spec import StepSpec


@parameters
class LineageParameters:
    config: str = "configs/iris.yaml"
    uri: str = ""
    """A table, model, source or run; by default the config's newest predictions."""
    lake: str = ""


SPEC = StepSpec(name="lineage", parameters=LineageParameters)
OF_RUN = re.compile(r"(?:runs:/)?([0-9a-f]{32})")


def resolve_uris(text: str) -> list[str]:
    """The URIs that `text` stands for: pinned, of a source, or those that a run handed on. NothingKnown if none."""
    if run_id := OF_RUN.fullmatch(text):
        run = runs.find(run_id[1])
        if uris := {uri for uri in run_tags.outputs(run).values() if is_pinned(uri)} if run else None:
            return sorted(uris)
        raise NothingKnown(text, "it handed nothing on" if run else "there is no such run")
    if text.startswith(MODEL):
        is_gone = is_pinned(text) and registry.find_uri(text) is None
        return [text if is_gone else registry.uri_of(registry.resolve(text))]
    if source := _ingested_source(text):
        return [source]
    if location.scheme(text) not in ("", "file", "s3", "s3a"):
        raise NothingKnown(text, "no run has ingested it")
    table = location.parse_table(text)
    return [str(table if table.version is not None else snapshot.open(table))]


def _ingested_source(text: str) -> str:
    """`text` as ingest logged it as a source, "" if it never did."""
    paths = [] if location.scheme(text) else [location.absolute(text), os.path.abspath(text)]
    return next((uri for uri in [text, *paths] if runs.tagged(f"{run_tags.INPUT}{SOURCE}", uri)), "")


def _predictions(parameters: LineageParameters) -> str:
    settings = config_files.load(parameters.config, home=location.home())
    return f"{location.lake_root(parameters.lake)}/{settings.name}_predictions"


def _raise_what_is_wrong_with(uri: str) -> None:
    if uri.startswith(MODEL):
        registry.resolve(uri)
    else:
        snapshot.open(location.parse_table(uri))


def _lakes(lake: str) -> list[str]:
    """The lake, if there is one: with a tracking server it need not be given to look a model up."""
    try:
        return [location.lake_root(lake)]
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
        products = [downstream(origin.name, origin.provenance, index, shown=set()) for origin in origins]
        if origins[0].is_gone and not products[0].nodes and not OF_RUN.fullmatch(parameters.uri):
            _raise_what_is_wrong_with(uris[0])

        text = "\n".join(page(origins, products))
        mlflow.log_text(text + "\n", "lineage.txt")
        trees = {"made_of": [asdict(node) for node in origins], "made": [asdict(node) for node in products]}
        mlflow.log_text(json.dumps(trees, indent=2, default=datetime.isoformat), "lineage.json")
        print(text)


if __name__ == "__main__":
    main()
