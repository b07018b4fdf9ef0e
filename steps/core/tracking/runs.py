"""Find runs, also deleted ones, by their tags. Reads the tracking store, never writes."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Protocol

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from steps.core.tracking import mlflow_constants

PAGE_SIZE = 1000  # the most runs that MLflow returns at once
TAG_CHARACTERS = 5000  # MLflow's limit for the value of a tag


class Page[T](Protocol):
    """One page of a search by MlflowClient."""

    token: str | None  # of the next page

    def __iter__(self) -> Iterator[T]: ...


def search(condition: str) -> list[Run]:
    """The runs of all experiments that meet a condition in MLflow's filter language, the newest first."""
    client, experiments = MlflowClient(), _experiments(mlflow.get_tracking_uri())
    return all_pages(
        lambda token: client.search_runs(experiments, condition, ViewType.ALL, PAGE_SIZE, page_token=token)
    )


def newest(experiment_id: str, tags: Mapping[str, str], *, count: int, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """At most `count` runs of an experiment with these tags, the newest first; `view` is one of ViewType."""
    condition = " and ".join(f"tags.`{name}` {equals(value)}" for name, value in tags.items())
    newest_first = ["attributes.start_time DESC"]
    return list(MlflowClient().search_runs([experiment_id], condition, view, count, newest_first))


def unfinished(condition: str = "") -> list[Run]:
    """The runs of all experiments that have not ended; `condition` as for search()."""
    is_running = "attributes.status = 'RUNNING'"
    return search(f"{is_running} and {condition}" if condition else is_running)


def tagged(tag: str, value: str) -> list[Run]:
    """The runs whose tag has exactly this value, the newest first."""
    return [run for run in search(f"tags.`{tag}` {equals(value)}") if run.data.tags[tag] == value]


def equals(value: str) -> str:
    """The end of a condition that `value` meets, and few others do: MLflow's filters have no escape character."""
    if re.search(r"['\\]", value):
        return f"LIKE '{re.sub('[^A-Za-z0-9/]', '_', value)}'"
    return f"= '{value}'"


def find(run_id: str) -> Run | None:
    """A run, also a deleted one, None when the store does not have it."""
    if not run_id:
        return None
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException as err:
        if err.error_code != mlflow_constants.RESOURCE_DOES_NOT_EXIST:
            raise
        return None


def all_pages[T](search: Callable[[str | None], Page[T]]) -> list[T]:
    """The items of all pages; `search` takes the token of a page, None for the first.

    Not mlflow.search_runs(), which stops at 100,000 runs.
    """
    page = search(None)
    items = list(page)
    while page.token:
        page = search(page.token)
        items += page
    return items


def step_of(run: Run) -> str:
    """The entry point that a run is of."""
    tags: dict[str, str] = run.data.tags
    return tags.get(mlflow_constants.ENTRY_POINT) or tags.get(mlflow_constants.RUN_NAME, "")


def ended(run: Run) -> datetime:
    """When a run ended; while it has not, when it started."""
    return datetime.fromtimestamp((run.info.end_time or run.info.start_time) / 1000, UTC)


def milliseconds(when: datetime) -> int:
    """A time as MLflow counts it, since 1970."""
    return int(when.timestamp() * 1000)


def forget_experiments() -> None:
    """Ask for the experiments again in the next search, which then sees those that are new."""
    _experiments.cache_clear()


@cache
def _experiments(store: str) -> list[str]:
    """The ids of all experiments; asked for once, because half of a search's time would go into it."""
    client = MlflowClient(store)
    experiments = all_pages(lambda token: client.search_experiments(ViewType.ALL, page_token=token))
    return [experiment.experiment_id for experiment in experiments]
