"""The config of an entry point that may be given a source and a target in place of one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import mlflow

from steps.core import config
from steps.core.config import Config
from steps.core.errors import FormatsMixed, FormUnclear, NotText, ParametersInvalid, SourceUnreadable
from steps.core.sources import kinds, text_files
from steps.core.sources.file_source import Files
from steps.core.sources.http_files import HttpFile
from steps.core.sources.inferred_config import FILE_FORMATS, TEXT_FORMATS, infer_config
from steps.core.sources.source import Source
from steps.core.tables import location
from steps.core.tracking import config_files
from steps.core.workflow.step_run import StepRun

DEFAULT_CONFIG = "configs/iris.yaml"  # what `config` says where it was left out
PARAMETERS = ("config", "source", "target", "name")


class ConfigParameters(Protocol):
    """The parameters that decide the config; `target` and `name` are for a source without one."""

    @property
    def config(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class LoadedConfig:
    """`path` is where another step of any machine that uses this tracking store reads the same config."""

    settings: Config
    path: str
    source: str  # the parameter `source` that goes with it: "" where the config was made for it


def load(parameters: ConfigParameters, run: StepRun, *, entry_point: str) -> LoadedConfig:
    """The config at `config` or, with a `target`, one inferred from `source`, which is logged on the run and told.

    A run's artifact is what other steps read, as it can be read from anywhere, stays what it was, and is nothing in the
    user's folder. ParametersInvalid when `target` and `name` do not fit the others.
    """
    if mistakes := _mistakes(parameters):
        raise ParametersInvalid(entry_point, mistakes, PARAMETERS)
    if not parameters.target:
        settings = config_files.load(parameters.config, home=location.home())
        return LoadedConfig(settings=settings, path=parameters.config, source=parameters.source)
    source = _find_source(parameters.source)
    with source.opened():
        inferred = infer_config(source, target=parameters.target, name=parameters.name)
    mlflow.log_text(inferred.text, inferred.file_name)
    path = f"runs:/{run.run_id}/{inferred.file_name}"
    kept = f"  config   {path}; saved as a file of yours it can be edited: `mlflow artifacts download -u {path} -d .`"
    run.remark([*inferred.lines, kept])
    return LoadedConfig(settings=inferred.config, path=path, source="")


def _find_source(uri: str) -> Source:
    """The source at `uri`; of files whose names do not say their format, in the first that can read them."""
    try:
        return _in_its_form(config.Source(uri=uri))
    except (FormUnclear, FormatsMixed):
        raise
    except SourceUnreadable as err:
        by_name = err
    refusals: dict[str, SourceUnreadable] = {}
    for file_format in FILE_FORMATS:
        try:
            return _in_its_form(config.Source(uri=uri, format=file_format))
        except SourceUnreadable as err:
            refusals[file_format] = err
    raise _refusal(uri, by_name, refusals)


def _refusal(uri: str, by_name: SourceUnreadable, refusals: Mapping[str, SourceUnreadable]) -> SourceUnreadable:
    """What to say of files that no format can read, of which `by_name` is what their names led to."""
    if by_name.reason in [refusal.reason for refusal in refusals.values()]:
        return by_name
    if not_text := next((refusal for refusal in refusals.values() if isinstance(refusal, NotText)), None):
        return refusals["parquet"] if not_text.is_parquet else not_text  # it says what it is
    reasons = [f"as {name}: {refusals[name].reason}" for name in TEXT_FORMATS]
    next_step = "correct it, or say source.format and source.options in a config"
    return SourceUnreadable(uri, "\n    - ".join([by_name.reason, *reasons]), next=next_step)


def _in_its_form(settings: config.Source) -> Source:
    """The source that they say, which can be read: a text that is not in the usual form in the one that it most likely
    has, such as another encoding, or lines above its table."""
    source = kinds.resolve(settings)
    if not isinstance(source, HttpFile) and source.settings.format not in FILE_FORMATS:
        return source
    try:
        source.columns()
        return source
    except FormUnclear as err:
        if not err.likely.keys() - settings.options.keys():
            raise
        if isinstance(source, Files) and "encoding" in err.likely:
            sizes = {name: file.size_bytes for name, file in source.data_files().items()}
            text_files.check_one_encoding(sizes, guessed=str(err.likely["encoding"]), in_file=err.uri)
        likely = settings.model_copy(update={"options": {**settings.options, **err.likely}})
        if "skip_lines" in err.likely and not _has_one_header(kinds.resolve(likely)):
            reason = f"{err.reason}; other files have no such lines above their table"
            raise SourceUnreadable(err.uri, reason, next="make the files alike, or name some by a glob") from err
        return _in_its_form(likely)


def _has_one_header(source: Source) -> bool:
    """Whether it is one file, or several that have the same columns."""
    if not isinstance(source, Files) or len(source.data_files()) < 2:
        return True
    try:
        return len({header.names for header in source.headers.values()}) == 1
    except SourceUnreadable:
        return False


def _mistakes(parameters: ConfigParameters) -> list[str]:
    if not parameters.target:
        return ["'name' goes with 'target': the config has a name already"] if parameters.name else []
    mistakes = []
    if parameters.config != DEFAULT_CONFIG:
        mistakes.append(f"'target' is for a source without a config; {parameters.config} says what its target is")
    if not parameters.source:
        mistakes.append("'target' needs 'source', which says where the data is")
    return mistakes
