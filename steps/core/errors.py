"""The mistakes that a user can mend; each says what was given, what was expected and what to do next.

    UserError
    |-- ParametersInvalid, ConfigNotFound, ConfigInvalid,     what was asked for
    |   NoTrainingWindow
    |-- ProjectBroken                                         the code
    |-- JavaUnusable, SparkUnavailable, PackageMissing,       the machine
    |   SettingInvalid, DiskUnusable, MatrixTooLarge,
    |   SearchTooLarge, UpsertTooLarge
    |-- TrackingUnavailable, RunUnusable, LakeUndefined,      where things live
    |   LockNotReleased, ObjectStoreUnavailable
    |-- SourceUnreadable, ContractBroken, SourceUnlabelled,   the source
    |   SourceChanged, SourceIngestedMeanwhile,
    |   TargetNotFound, TargetUnfit, FeaturesMissing,
    |   FormUnclear, FormatsMixed, NotText
    |-- TableNotFound, TableUnreadable, TableVersionGone,     tables
    |   TableUnfit, TableNotWritten, TableBusy, TableChanged
    |-- ModelNotFound, ModelDamaged, ModelUnreadable,         models
    |   ModelProtected, PromotionRefused, NothingToInferWith
    |-- AddressUnusable                                       serving
    |-- NothingToWatch, ReferenceUnknown, TooManyWindows,     monitoring (steps/core/monitoring/errors.py)
    |   LabelsUnusable, LabelsContradictory
    `-- NothingKnown                                          lineage
        StepFailed                                            a step of the workflow; carries that step's own message

Anything else that is raised is a bug of ours and keeps its traceback.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches

from steps.core.redaction import redacted


class UserError(Exception):
    """Base of all of them. The text is the whole message: what was given, `expected` and `next`, a line each, without
    the secrets that a library's own message may have."""

    def __init__(self, given: str, *, expected: str, next: str) -> None:
        super().__init__(redacted(f"{type(self).__name__}: {given}\n  expected  {expected}\n  next      {next}"))

    def about(self, address: str, *, instead_of: str) -> None:
        """Name what the user knows by another address, such as a file that was loaded from there."""
        self.args = (str(self).replace(instead_of, address),)

    def __reduce__(self) -> tuple[Callable[..., "UserError"], tuple[object, ...]]:
        # Spark's workers hand errors back pickled; Exception's own way calls a subclass with the message alone
        return _restore, (type(self), self.args, self.__dict__)


class ParametersInvalid(UserError):
    """An entry point was given parameters that it does not have, or values that they do not take; all of them are
    named."""

    def __init__(self, entry_point: str, mistakes: Iterable[str], known: Iterable[str]) -> None:
        super().__init__(
            listed(f"-e {entry_point} was given parameters that it cannot take", mistakes),
            expected=f"-P NAME=VALUE with NAME among {', '.join(known)}",
            next="correct these parameters and run it again",
        )


class ConfigNotFound(UserError):
    """There is no config file at the path that was given."""

    def __init__(self, path: str, looked_in: Iterable[str]) -> None:
        super().__init__(
            f"config {path!r} is not a file",
            expected=f"a YAML file, looked for in {' and '.join(looked_in)}",
            next="pass its path with -P config=PATH",
        )


class NoTrainingWindow(UserError):
    """train_on=window, and the config has no `split.window`."""

    def __init__(self) -> None:
        super().__init__(
            "train_on=window was given, and the config does not say which rows are the newest",
            expected="`window: {column: <date or timestamp>, days: <number>}` under `split` in the config",
            next="add it, or leave train_on out, which trains on all rows",
        )


class ConfigInvalid(UserError):
    """The config is not YAML, or has keys or values that there are not; all of them are named."""

    def __init__(self, path: str, mistakes: Iterable[str]) -> None:
        super().__init__(
            listed(f"config {path}", mistakes),
            expected="the keys that docs/reference/config.md lists, with values of their kinds",
            next="correct these keys and run it again",
        )


class JavaUnusable(UserError):
    """Spark has to start, and there is no Java of a version that it takes."""

    def __init__(self, found: str) -> None:
        super().__init__(
            found,
            expected="Java 17, at JAVA_HOME or on PATH, for Spark",
            next="install it (Debian, Ubuntu: `sudo apt-get install openjdk-17-jre-headless`) or correct JAVA_HOME",
        )


class SettingInvalid(UserError):
    """An environment variable has a value that it cannot have."""

    def __init__(self, name: str, value: str, *, expected: str, next: str = "") -> None:
        next = next or f"correct or unset {name}"
        super().__init__(f"{name}={value} in the environment", expected=expected, next=next)


class SparkUnavailable(UserError):
    """Spark did not start, cannot be reached or has ended."""

    def __init__(self, reason: str, *, next: str) -> None:
        super().__init__(
            f"Spark cannot be used: {reason}",
            expected="Spark with Delta: one that starts here, or a Spark Connect server at SPARK_REMOTE",
            next=next,
        )


class MatrixTooLarge(UserError):
    """Sizes are in words, with their units."""

    def __init__(self, *, needed: str, memory: str, disk: str, folder: str) -> None:
        super().__init__(
            f"training takes up to {needed}; free are {memory} of memory and {disk} of disk at {folder}",
            expected="at most half of what is free, in memory or on disk",
            next="set TMPDIR to a folder on a larger disk, or SPARK_REMOTE to a cluster and pass -P engine=spark",
        )


class SearchTooLarge(UserError):
    """Sizes are in words, with their units."""

    def __init__(self, *, needed: str, memory: str) -> None:
        super().__init__(
            f"a search holds the train and validation parts in memory, up to {needed}; {memory} of memory are free",
            expected="at most half of the memory that is free",
            next="search on a part of the rows or on a larger machine, put what is found into the config under "
            "`model`, and train without a search (trials=0)",
        )


class UpsertTooLarge(UserError):
    """Sizes are in words, with their units."""

    def __init__(self, table: str, *, rows: int, needed: str, memory: str) -> None:
        super().__init__(
            f"{table}: to upsert {rows:,} rows takes up to {needed}; {memory} of memory are free",
            expected="rows that a merge by key can hold in memory",
            next="ingest them a part at a time (-P source), on a larger machine, or all of them with `mode: replace`",
        )


class PackageMissing(UserError):
    """Raised by no step: told where the imports of an entry point fail."""

    def __init__(self, interpreter: str, reason: str) -> None:
        super().__init__(
            f"{interpreter} cannot run this project: {reason}",
            expected="the environment of conda.yaml, whose `mlflow` and `python` come first on PATH",
            next="run `make setup` and `source .venv/bin/activate` in the project, or pass `--env-manager uv`",
        )


class ProjectBroken(UserError):
    """A file of the project is no Python, or a step does not declare itself."""

    def __init__(self, path: str, reason: str, *, line: int = 0) -> None:
        super().__init__(
            f"{path}, line {line}, {reason}" if line else f"{path} {reason}",
            expected="steps that can be imported, each with its SPEC (docs/contributing.md); nothing was run",
            next="correct that file and run it again",
        )


class DiskUnusable(UserError):
    """A disk is full, or a folder may not be written."""

    def __init__(
        self,
        where: str,
        reason: str,
        *,
        next: str = "make room or give the right, and run it again: what was finished is kept",
    ) -> None:
        super().__init__(
            f"{where}: {reason}",
            expected="room and the right to write where the lake, the tracking store and its artifacts, and TMPDIR are",
            next=next,
        )


class TrackingUnavailable(UserError):
    """The tracking store does not answer, refuses the user or is of another version of MLflow."""

    def __init__(
        self,
        uri: str,
        reason: str,
        *,
        next: str = "start the server, or correct MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and its _PASSWORD",
    ) -> None:
        super().__init__(
            f"the tracking store {uri} cannot be used: {reason}",
            expected="an MLflow tracking server that answers, or a SQLite database",
            next=next,
        )


class RunUnusable(UserError):
    """The run or the experiment of MLflow's that a run is to be in cannot take one; `given` says what names it."""

    def __init__(self, given: str, reason: str, *, next: str) -> None:
        super().__init__(f"{given}: {reason}", expected="one that is there and was not deleted", next=next)


class LockNotReleased(UserError):
    """Another process holds a lock for longer than a wait is worth."""

    def __init__(self, what: str, holder: str, *, minutes: float) -> None:
        super().__init__(
            f"{holder} has been at work on {what} for more than {minutes:g} minutes",
            expected="one process after the other",
            next="wait until it has ended, or end it, and run this again",
        )


class LakeUndefined(UserError):
    """Nothing says where the tables are, or it is no place for them."""

    def __init__(self, given: str) -> None:
        super().__init__(
            given,
            expected="a folder to keep the tables in, or s3://<bucket> with or without /<prefix>",
            next="pass -P lake=URI or set LAKE_URI",
        )


class ObjectStoreUnavailable(UserError):
    """The object store does not answer, or refuses the keys or the bucket."""

    def __init__(self, uri: str, endpoint: str, reason: str) -> None:
        super().__init__(
            f"{uri} at {endpoint or 'AWS'} cannot be used: {reason}",
            expected="an object store that answers, the bucket in it, and keys that may read and write there",
            next="start the store, or correct the lake, MLFLOW_S3_ENDPOINT_URL or AWS_ACCESS_KEY_ID and its like",
        )


class SourceUnreadable(UserError):
    """There is nothing at the source, or it is not of the form that the config says."""

    def __init__(
        self, uri: str, reason: str, *, next: str = "correct source.uri in the config, or pass -P source=URI"
    ) -> None:
        super().__init__(
            f"source {uri}: {reason}",
            expected="a source that is there and can be read: files or a table by path, a URL, sklearn:<name>, jdbc:postgresql://",
            next=next,
        )
        self.reason = reason

    def about(self, address: str, *, instead_of: str) -> None:
        self.reason = self.reason.replace(instead_of, address)
        super().about(address, instead_of=instead_of)


class FormUnclear(SourceUnreadable):
    """`likely` are the source.options by which the file at `uri` is most probably read right, {} when nothing tells."""

    def __init__(self, uri: str, reason: str, *, likely: Mapping[str, str | int], next: str) -> None:
        super().__init__(uri, reason, next=next)
        self.uri, self.likely = uri, dict(likely)

    def about(self, address: str, *, instead_of: str) -> None:
        self.uri = self.uri.replace(instead_of, address)
        super().about(address, instead_of=instead_of)


class FormatsMixed(SourceUnreadable):
    """A folder has files of a format, by their names, and others beside them."""


class NotText(SourceUnreadable):
    """A file that should be text is something else, such as an archive; after a colon `what` says what to do."""

    def __init__(self, uri: str, what: str) -> None:
        what, _, advice = what.partition(": ")
        super().__init__(uri, f"it is not a text, it is {what}", next=advice or "pass the data as text or Parquet")
        self.is_parquet = what.startswith("Parquet")


class SourceChanged(UserError):
    """The source was written to, or files of it were removed, while it was read."""

    def __init__(self, uri: str) -> None:
        super().__init__(
            f"source {uri} was written to while it was read; the table is as it was",
            expected="a source that stays as it is while it is read",
            next="run it again when their writer has finished",
        )


class SourceIngestedMeanwhile(UserError):
    """Another run has appended files of the source since they were looked at."""

    def __init__(self, table: str, *, ingested: int, files: int) -> None:
        super().__init__(
            f"{table} holds the rows of {ingested:,} of these {files:,} source files already, which another run has "
            "added; nothing was written",
            expected="files that nobody else ingests into the same table at the same time",
            next="run it again: it reads the other files only",
        )


class ContractBroken(UserError):
    """`rejects` says where the rows that break it are kept, `at_most` which share of the rows may.

    `missing` are columns that the source does not have: their names in the contract, and there.
    """

    def __init__(
        self,
        uri: str,
        mistakes: Iterable[str],
        *,
        rejects: str = "",
        at_most: float | None = None,
        missing: Mapping[str, str] | None = None,
    ) -> None:
        self.missing = dict(missing or {})
        kept = f"no version was written; {rejects}" if rejects else "nothing was written"
        allowed = "" if at_most is None else f" (of at most {at_most:.2%} of them: rejects_at_most)"
        super().__init__(
            listed(f"source {uri} breaks the contract of its config; {kept}", mistakes),
            expected=f"rows that keep the types and rules under `columns`{allowed}",
            next="correct the source, or the columns in the config",
        )


class SourceUnlabelled(UserError):
    """The rows of the source have no target."""

    def __init__(self, uri: str, reason: str, *, table: str) -> None:
        super().__init__(
            f"source {uri} has no labels: {reason}; nothing was written",
            expected=f"rows with labels, to be the newest version of {table}, from which train and evaluate learn",
            next="correct the source; or, to predict rows without labels, run `mlflow run . -e ingest "
            f"-P labelled=false` with it, and `-e infer -P table={table}_unlabelled`",
        )


class TargetNotFound(UserError):
    """The source has no column of the target's name."""

    def __init__(self, uri: str, target: str, columns: Iterable[str]) -> None:
        columns = list(columns)
        super().__init__(
            f"source {uri} has no column {target!r}{did_you_mean(target, columns)}",
            expected=f"the name of one of its columns: {', '.join(columns)}",
            next="pass that name with -P target=NAME",
        )


class FeaturesMissing(UserError):
    """`columns` says of each column of a source why a model does not learn from it."""

    def __init__(self, uri: str, columns: Iterable[str]) -> None:
        super().__init__(
            f"source {uri} has no column from which a model may learn: {'; '.join(columns)}",
            expected="a column beside the target that other rows have too",
            next="correct the source, or write a config that says what its columns are (docs/how-to/own-data.md)",
        )


class TargetUnfit(UserError):
    """The target's values are neither classes nor numbers that can be learnt."""

    def __init__(self, uri: str, target: str, reason: str) -> None:
        super().__init__(
            f"column {target!r} of source {uri} cannot be the target: {reason}",
            expected="classes (texts, true and false, or whole numbers, each in several rows), or numbers",
            next="pass another column with -P target=NAME, or make classes of this one in the source",
        )


class TableNotFound(UserError):
    """There is no Delta table at a URI."""

    def __init__(self, uri: str, *, next: str = "run `mlflow run . -e ingest`, or pass another table") -> None:
        super().__init__(f"{uri} is not a Delta table", expected="<lake>/<name> or <lake>/<name>@v<N>", next=next)


class TableUnreadable(UserError):
    """There is a table, and its log or its files cannot be read."""

    def __init__(
        self, uri: str, reason: str, *, next: str = "restore it, or move it away and run `mlflow run . -e ingest`"
    ) -> None:
        super().__init__(
            f"{uri} cannot be read: {reason}",
            expected="a folder that may be read, with a log as Delta writes it and the data files that it names",
            next=next,
        )


class TableVersionGone(UserError):
    """The table has no such version any more, or not yet."""

    def __init__(self, uri: str, reason: str, *, versions: str) -> None:
        super().__init__(
            f"{uri}: {reason}", expected=f"a version from {versions}", next="pass another version of the table"
        )


class TableUnfit(UserError):
    """The table can be read, but not used for what was asked."""

    def __init__(self, uri: str, mistakes: Iterable[str], *, expected: str, next: str) -> None:
        super().__init__(listed(uri, mistakes), expected=expected, next=next)


class TableNotWritten(UserError):
    """The folder or bucket of a table does not take its files."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"{uri} could not be written; its newest version is the one from before: {reason}",
            expected="a folder or bucket that may be written, with room for the rows",
            next="make room, or correct its rights, and run it again",
        )


class TableBusy(UserError):
    """Other writers came first at each of many attempts to commit."""

    def __init__(self, uri: str, *, attempts: int) -> None:
        super().__init__(
            f"{uri}: each of {attempts} commits came after that of another writer",
            expected="a moment between two commits of others",
            next="run it again when fewer processes write this table",
        )


class TableChanged(UserError):
    """A table was written since the rows for it were compared with its own."""

    def __init__(self, uri: str) -> None:
        super().__init__(
            f"another run has written {uri} since the keys of the source's rows were compared with its own; "
            "nothing was written",
            expected="one run at a time that appends to a table with a key",
            next="run it again: it compares them with the rows that are there now",
        )


class ModelNotFound(UserError):
    """`next` is what helps, where that is not to train one."""

    def __init__(self, given: str, *, known: Iterable[str], next: str = "") -> None:
        there_is = ", ".join(known) or "no model yet"
        super().__init__(
            given,
            expected=f"models:/<name>/<version> or models:/<name>@<alias>; there is {there_is}",
            next=next or "run `mlflow run . -e train` and `-e evaluate`, or pass another model",
        )


class ModelDamaged(UserError):
    """`what` says which of the version's files are not as they were logged."""

    def __init__(self, uri: str, what: str) -> None:
        self.what = what
        super().__init__(
            f"{uri} cannot be loaded: {what}",
            expected="the files that train logged with it",
            next="run `mlflow run . -e train` and `-e evaluate`: a version that passes takes over the alias staging; "
            f"or {_another_version(uri)}",
        )


class ModelUnreadable(UserError):
    """Nothing is known to be wrong with the version itself."""

    def __init__(
        self,
        uri: str,
        reason: object,
        *,
        expected: str = "an artifact store that answers, and the packages of conda.yaml",
        next: str = "run it again when they are there",
    ) -> None:
        super().__init__(
            f"{uri} cannot be read here: {reason}", expected=expected, next=f"{next}; or {_another_version(uri)}"
        )


class ModelProtected(UserError):
    """The tracking server does not let this user change the registered model."""

    def __init__(self, name: str, user: str) -> None:
        super().__init__(
            f"the tracking server does not let {user} change the registered model {name}",
            expected=f"the permission EDIT on {name}; READ is enough for infer, and for what is read here",
            next="ask its owner or an administrator of the server, or set another model.name in the config",
        )


class PromotionRefused(UserError):
    """The version did not pass the gate, or there is nothing to go back to."""

    def __init__(self, given: str, *, expected: str, next: str) -> None:
        super().__init__(given, expected=expected, next=next)


class NothingToInferWith(UserError):
    """The gate turned the new version down, and no earlier one is in use."""

    def __init__(self, model: str, verdict: str, reasons: str) -> None:
        super().__init__(
            f"the gate's verdict on {model} is {verdict} and there is no champion: {reasons}",
            expected="a version that passes the gate, or one that the alias staging names already",
            next="change the data, the hyperparameters or the gate in the config, and run it again",
        )


class AddressUnusable(UserError):
    """A server cannot listen where it was told to."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"the server cannot listen at {host}, port {port}: {reason}",
            expected="an address of this machine, and a port of it that no other process has",
            next="pass another one with -P port=N or -P host=ADDRESS, or end what listens there",
        )


class NothingKnown(UserError):
    """No run, table or model is known by a URI."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"{uri}: {reason}",
            expected="a table's or a model's URI, a run's id, or a source that was ingested",
            next="take the URI from what a step printed, or from a column of the predictions",
        )


class StepFailed(UserError):
    """A child run failed. `message` is what the step left on its run, `command` runs it again."""

    def __init__(self, step: str, message: str, command: str) -> None:
        Exception.__init__(self, f"{step} failed\n{message}\n  again     {command}")


def _restore(kind: type[UserError], args: tuple[object, ...], attributes: Mapping[str, object]) -> UserError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


def _another_version(uri: str) -> str:
    name = shlex.quote(f"name={uri.removeprefix('models:/').rpartition('/')[0]}")
    command = f"`mlflow run . -e promote -P {name} -P version=N -P alias=staging`"
    return f"let the alias name another one: {command}, with -P force=true -P reason=WHY where that did not pass"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what it follows from, each once: a library may raise an error from one that follows from it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def listed(title: str, mistakes: Iterable[str]) -> str:
    """`title` alone with one mistake on its line, or above several of them."""
    mistakes = list(mistakes)
    if len(mistakes) == 1:
        return f"{title}: {mistakes[0]}"
    return "\n    - ".join([f"{title}:", *mistakes])


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The part of a message that names the nearest of `known`, or "" when none is near: a nested field of that name,
    else one that is written alike, else one that begins with it."""
    known = list(known)
    nearest = (
        [other for other in known if other.endswith(f".{name}")]
        or get_close_matches(name, known, n=1)
        or [other for other in known if len(name) > 1 and other.startswith(name)]
    )
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
