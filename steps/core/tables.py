"""All tables of a folder and all their versions: the commits, the files, and whether they can still be read."""

from steps.core import lake
from steps.core.errors import TableNotFound, TableVersionGone


def commits(path: str) -> dict[int, lake.Commit]:
    """The commits of a table by version, the newest first, as far as its log is kept; {} where there is no table."""
    try:
        return {commit.version: commit for commit in lake.commits(lake.TableUri(path))}
    except TableNotFound:
        return {}


def is_readable(table: lake.TableUri) -> bool:
    """Whether all files of a version are there: neither its log entry nor they were cleaned away."""
    try:
        return not lake.lost_files(table.path, lake.open_table(table))
    except (TableNotFound, TableVersionGone):
        return False


def identity(table: lake.TableUri) -> str:
    """lake.identity() of a pinned version, "" where its log entry is gone."""
    try:
        return lake.identity(table)
    except (TableNotFound, TableVersionGone):
        return ""
