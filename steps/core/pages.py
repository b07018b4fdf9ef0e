"""All of what MLflow hands out page by page."""

from collections.abc import Callable

from mlflow.store.entities.paged_list import PagedList


def every[T](ask: Callable[[str | None], PagedList[T]]) -> list[T]:
    """The items of all pages; `ask` is given the token of the next one, None for the first."""
    found: list[T] = []
    token: str | None = None
    while token != "":
        page = ask(token)
        found, token = [*found, *page], page.token or ""
    return found
