"""Configs where they are kept: a file, or an artifact of a run, `runs:/<run id>/<file>`."""

import re
from pathlib import Path

from steps.core import config
from steps.core.config import Config
from steps.core.errors import ConfigInvalid, ConfigNotFound
from steps.core.tracking import artifacts, runs

OF_RUN = re.compile(r"runs:/([0-9a-f]{32})/([^/]+)")


def load(path: str, *, home: Path) -> Config:
    """The config at a path, as config.load() finds it, or that of a run. ConfigNotFound, ConfigInvalid."""
    if not (matched := OF_RUN.fullmatch(path)):
        return config.load(path, home=home)
    run = runs.find(matched[1])
    content = artifacts.read(run, matched[2]) if run else None
    if content is None:
        raise ConfigNotFound(path, [f"the artifacts of run {matched[1]}"])
    try:
        return config.parse(content.decode("utf-8"), path=path)
    except UnicodeDecodeError as err:
        raise ConfigInvalid(path, [f"is not YAML: {err}"]) from err
