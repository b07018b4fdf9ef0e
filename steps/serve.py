"""Answer over REST by a model: MLflow's scoring protocol, by the version that an alias names, as it moves.

Reads   the model by its URI (by default the alias `production`), and the alias again each few seconds
Writes  answers; with `log` true, each scored row to <lake>/<name>_requests
Fails   ModelNotFound, ModelDamaged, ModelUnreadable when there is no model to begin with; TableUnfit with `log` true
        and a feature that has the name of one of the log's own columns; AddressUnusable. Afterwards it answers by the
        version that it has, whatever becomes of the registry, until SIGTERM or SIGINT: it finishes what was begun and
        ends with exit code 0
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

from mlflow.entities.model_registry import ModelVersion
from pydantic import Field

from steps.core.errors import ModelDamaged
from steps.core.models import aliases, registry
from steps.core.parameters import parameters
from steps.core.serving import http_server, request_log, spool, workers
from steps.core.serving.invocations import Limits
from steps.core.serving.request_log import RequestLog
from steps.core.serving.service import Service, Settings
from steps.core.tables import location
from steps.core.tables.location import TableUri
from steps.core.tracking import config_files
from steps.core.workflow import entry_point
from steps.core.workflow.step_spec import StepSpec

MEBIBYTE = 2**20
REGISTRY_SECONDS = "20"  # without a byte from the registry; MLflow's default is two minutes, five times


@parameters
class ServeParameters:
    config: str = "configs/iris.yaml"
    name: str = ""
    """The registered model; by default the config's."""
    model: str = ""
    """The version that answers, `models:/NAME/3` or `models:/NAME@ALIAS`; by default `production` of `name`."""
    lake: str = ""
    host: str = "127.0.0.1"
    """The address to listen at; `0.0.0.0` for other machines too."""
    port: Annotated[int, Field(ge=0, le=65535)] = 5002
    """The port to listen at; 0 is any that is free."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """How many processes answer."""
    log: bool = False
    """Whether each scored row goes to `<lake>/<name>_requests`."""
    log_seconds: Annotated[float, Field(ge=1, le=3600)] = 60
    """How long until what was asked is in the table."""
    poll_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 5
    """How long between two looks at the alias."""
    body_mb_at_most: Annotated[float, Field(gt=0, le=2048)] = 64
    """Of one request, in MiB; a larger one is refused."""
    rows_at_most: Annotated[int, Field(ge=1)] = 200_000
    """Of one request; one with more is refused."""
    answer_seconds: Annotated[float, Field(gt=0, le=3600)] = 60
    """How long one request may take."""


SPEC = StepSpec(name="serve", parameters=ServeParameters)


def model_uri(parameters: ServeParameters) -> str:
    """What is served: `model` as it was given, else the alias production."""
    if parameters.model:
        return parameters.model
    name = parameters.name or config_files.load(parameters.config, home=location.home()).model.name
    return f"models:/{name}@{aliases.PRODUCTION}"


def settings_of(parameters: ServeParameters, version: ModelVersion) -> Settings:
    """What the server is told: the model, its limits, and how the request log is opened."""
    limits = Limits(
        body_bytes=int(parameters.body_mb_at_most * MEBIBYTE),
        rows=parameters.rows_at_most,
        seconds=parameters.answer_seconds,
    )
    return Settings(
        model=model_uri(parameters),
        poll_seconds=parameters.poll_seconds,
        limits=limits,
        open_log=open_log(parameters, version) if parameters.log else None,
    )


def open_log(parameters: ServeParameters, version: ModelVersion) -> Callable[[], RequestLog]:
    """What makes the request log in each process. Its table is named after the one that `version` was trained on."""
    trained_on, _, _ = version.tags.get("table_uri", "").rpartition("@v")
    if not trained_on:
        raise ModelDamaged(registry.uri_of(version), "it does not say which table it was trained on")
    table = TableUri(f"{location.lake_root(parameters.lake)}/{TableUri(trained_on).name}_requests")
    spool_bytes = request_log.SPOOL_BYTES // parameters.workers
    return partial(
        RequestLog, table, spool.default_folder(), batch_seconds=parameters.log_seconds, spool_bytes=spool_bytes
    )


def main(argv: Sequence[str] | None = None) -> None:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", REGISTRY_SECONDS)
    with entry_point.start(SPEC, argv) as (parameters, run):
        version = registry.resolve(model_uri(parameters))
        settings = settings_of(parameters, version)
        run.reads(model=registry.uri_of(version))
        with http_server.bound(parameters.host, parameters.port) as bound_socket:

            def tell(model: str) -> None:
                url = http_server.url_of(bound_socket)
                print(f"serve: {model}{follows(settings.model)} answers at {url}, described at {url}/docs", flush=True)

            if parameters.workers == 1:
                Service(settings).run(bound_socket, on_start=tell)
            elif not workers.run(settings, bound_socket, workers=parameters.workers, on_start=tell):
                sys.exit(1)


def follows(model: str) -> str:
    """What the line about a server says of the alias that it follows."""
    return f" ({model.rpartition('@')[2]}, followed)" if "@" in model else ""


if __name__ == "__main__":
    main()
