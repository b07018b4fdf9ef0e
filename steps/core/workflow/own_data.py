"""The config of an entry point that may be given a source and a target in place of one."""

from dataclasses import dataclass
from typing import Protocol

import mlflow

from steps.core import config
from steps.core.config import Config
from steps.core.errors import FormUnclear, NotText, ParametersInvalid, SourceUnreadable
from steps.core.sources import kinds, text_files
from steps.core.sources.file_source import Files
from steps.core.sources.inferred_config import FILE_FORMATS, infer_config
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
    except FormUnclear:
        raise
    except SourceUnreadable as err:
        refusal = err
    for file_format in FILE_FORMATS:
        try:
            return _in_its_form(config.Source(uri=uri, format=file_format))
        except NotText as err:  # it says what it is
            refusal = err
        except SourceUnreadable:
            continue
    raise refusal


def _in_its_form(settings: config.Source) -> Source:
    """The source that they say, which can be read: a text that is not in the usual form in the one that it most likely
    has, such as another encoding, or lines above its table."""
    source = kinds.resolve(settings)
    if source.settings.format not in FILE_FORMATS:
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
        return _in_its_form(settings.model_copy(update={"options": {**settings.options, **err.likely}}))


def _mistakes(parameters: ConfigParameters) -> list[str]:
    if not parameters.target:
        return ["'name' goes with 'target': the config has a name already"] if parameters.name else []
    mistakes = []
    if parameters.config != DEFAULT_CONFIG:
        mistakes.append(f"'target' is for a source without a config; {parameters.config} says what its target is")
    if not parameters.source:
        mistakes.append("'target' needs 'source', which says where the data is")
    return mistakes
