"""A table or a query of a PostgreSQL database, which Spark reads over JDBC, in parts where `partitionColumn` is given.

The table is named in source.options or in the address, jdbc:postgresql://host/database?dbtable=schema.table. Who reads
is said in the environment alone, by PGUSER and PGPASSWORD as for PostgreSQL's own programs: what stands in a config or
a parameter is kept with the run. Only the columns that are asked for are read.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from steps.core import config
from steps.core.errors import ContractBroken, SourceUnreadable
from steps.core.sources import contract, jdbc_address, nested
from steps.core.sources.file_source import Header
from steps.core.sources.jdbc_address import PASSWORD_VARIABLE, USER_VARIABLE
from steps.core.sources.postgresql import BOUNDS, NUMERIC, ColumnType, ToRawRows, quoted
from steps.core.sources.rows import Part, RawRows, SparkRows
from steps.core.sources.source import Source

if TYPE_CHECKING:  # PySpark takes half a second, which every other source would pay too
    from pyspark.sql import DataFrame, SparkSession

SETTINGS = {  # of the driver
    "driver": "org.postgresql.Driver",
    "ApplicationName": "tabular-workflow",
    "connectTimeout": "10",  # seconds
    "loginTimeout": "30",  # seconds
    "tcpKeepAlive": "true",
}
# A password is in what a client asks of Spark, which Spark's page and its logs show.
REDACTION = ("spark.sql.redaction.string.regex", r'(?is)key: "(password|user)"\s+value: "(\\.|[^"\\])*"')
FETCH_ROWS = 10_000  # at a time; the driver itself would hold all rows of a partition
PARTITIONS = 8  # where only partitionColumn is given: each is a connection
ROWS_MEBIBYTES = 1024  # what Spark is to be ready for, as a table does not tell beforehand
WHOLE = ("lowerBound", "upperBound", "numPartitions")  # options that go with partitionColumn


class JdbcTable(Source):
    """A table or query of PostgreSQL, which Spark reads in parts."""

    scheme = "jdbc"
    options = ("dbtable", "query", "partitionColumn", *WHOLE, "fetchsize")
    instead = {
        "user": f"it by {USER_VARIABLE} in the environment",
        "password": f"it by {PASSWORD_VARIABLE} in the environment",
    }
    has_files = False
    needs_spark = True

    def check(self) -> None:
        jdbc_address.check(self.uri)
        if unfit := [name for name in self.settings.options if name.lower() not in map(str.lower, self.options)]:
            raise self._mistake(f"source.options.{unfit[0]} is not for a database")
        self._check_table()
        if not self.option("partitionColumn") and any(map(self.option, WHOLE)):
            raise self._mistake(f"source.options.{', '.join(WHOLE)} go with partitionColumn")
        for name in ("numPartitions", "fetchsize"):
            if (value := self.option(name)) and not re.fullmatch(r"[1-9]\d*", value):
                raise self._mistake(f"source.options.{name}: {value!r} is no whole number from 1")

    def _check_table(self) -> None:
        """SourceUnreadable unless one table or query is named, in one place."""
        named = [f"source.options.{name}" for name in ("dbtable", "query") if self.option(name)]
        named += ["dbtable in its address"] * bool(jdbc_address.table(self.uri))
        if len(named) > 1:
            raise self._mistake(f"{' and '.join(named)} each say what is read, and one of them can")
        if not named:
            example = f"{jdbc_address.without_table(self.uri)}?dbtable=schema.table"
            raise SourceUnreadable(
                self.uri,
                "nothing says which of its tables is read",
                next=f"pass -P source='{example}', or write a config with source.options.dbtable or query",
            )

    @property
    def named_after(self) -> str:
        return self.option("dbtable").rpartition(".")[2].strip('"') or jdbc_address.last_name(self.uri)

    def size_bytes(self) -> int:
        return ROWS_MEBIBYTES * 2**20

    def fingerprint(self) -> None:
        """None: a table tells of no change but by all of its rows."""

    @contextlib.contextmanager
    def opened(self) -> Iterator["SparkSession"]:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession

        from steps.core.spark.session import spark_session

        active = SparkSession.getActiveSession()
        with contextlib.nullcontext(active) if active else spark_session(self.uri, data_bytes=0) as session:
            try:
                yield session
            except PySparkException as err:
                if failure := self.failure(err):
                    raise failure from err
                raise

    def columns(self) -> dict[str, pa.DataType]:
        with self.opened() as session:
            return {name: kind.arrow for name, kind in self._types(session).items()}

    def parts(self, columns: Mapping[str, config.Column]) -> list[Part]:
        raise NotImplementedError("rows of a database come by read_by_spark()")

    def first_rows(self, columns: Mapping[str, config.Column], count: int) -> Iterator[RawRows]:
        with self.opened() as session:
            dataframe, types = self._rows(session, columns)
            rows: pa.Table = dataframe.limit(count).toArrow()
        # A few rows do not show how many digits numbers of any length have.
        to_raw_rows = ToRawRows(tuple(pa.float64() if kind == NUMERIC else kind for kind in types))
        yield from map(to_raw_rows, rows.combine_chunks().to_batches())

    def read_by_spark(self, session: "SparkSession", columns: Mapping[str, config.Column]) -> SparkRows:
        dataframe, types = self._rows(session, columns)
        return SparkRows(dataframe=dataframe, to_raw_rows=ToRawRows(types))

    def _rows(
        self, session: "SparkSession", columns: Mapping[str, config.Column]
    ) -> tuple["DataFrame", tuple[pa.DataType, ...]]:
        """The columns of the contract as they are selected, and the types that their values then get."""
        types = self._types(session)
        header = _header(types)
        asked = {name: column.source or name for name, column in columns.items()}
        wanted = {name: header.find(source) or source for name, source in asked.items()}
        if absent := contract.missing_columns(wanted, types):
            raise ContractBroken(self.uri, absent.values(), missing={name: wanted[name] for name in absent})
        for source in wanted.values():
            nested.check_is_value(self.uri, source, types[source].arrow)
        rows = self._select(session, [types[source].selected(quoted(source)) for source in wanted.values()], types)
        return rows.toDF(*wanted), tuple(types[source].arrow for source in wanted.values())

    def failure(self, error: Exception) -> SourceUnreadable | None:
        """The database's own words, without the password and the user."""
        text = str(error)
        if "ClassNotFoundException) org.postgresql.Driver" in text:
            next = f"start that Spark with `--packages {_driver()}`, or unset SPARK_REMOTE"
            return SourceUnreadable(self.uri, "the Spark at SPARK_REMOTE has no driver for PostgreSQL", next=next)
        if duplicate := re.search(r"\[COLUMN_ALREADY_EXISTS\] The column (\S+) already exists", text):
            reason = f"it has two columns {duplicate[1].strip('`')!r}"
            return SourceUnreadable(self.uri, reason, next="name them apart in source.options.query")
        said = re.search(r"org\.postgresql\.util\.PSQLException[:)] (.+)", text)
        if said is None:
            return None
        reason = _without_secrets(said[1].strip().rstrip("."))
        next = "correct source.uri, or source.options.dbtable or query in the config"
        if re.search(r"authentication|no password|role .* does not exist|pg_hba", said[1]):
            next = f"correct {USER_VARIABLE} and {PASSWORD_VARIABLE} in the environment"
        elif "onnect" in said[1] or "I/O error" in said[1]:
            next = "start the database, or correct source.uri in the config"
        return SourceUnreadable(self.uri, f"the database cannot be read: {reason}", next=next)

    @property
    def _relation(self) -> str:
        query = self.option("query").strip().rstrip(";")
        return f"({query}\n) as source_query" if query else jdbc_address.table(self.uri) or self.option("dbtable")

    def _reader(self, session: "SparkSession", query: str, **options: str) -> "DataFrame":
        # Not the settings of a session: those are shown too, and none has a password.
        session.conf.set(*REDACTION)
        session.conf.set("spark.sql.caseSensitive", "true")  # PostgreSQL has "A" beside a
        given = {"user": os.environ.get(USER_VARIABLE), "password": os.environ.get(PASSWORD_VARIABLE)}
        who = {name: value for name, value in given.items() if value}
        table = f"({query}) as source_rows"
        reader = session.read.format("jdbc").options(dbtable=table, **SETTINGS, **who, **options)
        return reader.option("url", jdbc_address.without_table(self.uri)).load()

    def _types(self, session: "SparkSession") -> dict[str, ColumnType]:
        """The columns and their types."""
        schema = self._reader(session, f"select * from {self._relation}").schema
        return {
            field.name: ColumnType(name=field.metadata["jdbcClientType"], in_spark=field.dataType.simpleString())
            for field in schema
        }

    def _select(self, session: "SparkSession", expressions: list[str], types: Mapping[str, ColumnType]) -> "DataFrame":
        """The values of these expressions, in partitions where that is asked for."""
        names = [f"c{position}" for position in range(len(expressions))]  # any other name may be too long
        listed = [f"{expression} as {name}" for expression, name in zip(expressions, names, strict=True)]
        options = {"fetchsize": self.option("fetchsize", default=str(FETCH_ROWS))}
        if self.option("partitionColumn"):
            column = self._partition_column(types)
            listed.append(f"{quoted(column)} as partition_value")
            options |= self._partitions(session, column, types[column])
        rows = self._reader(session, f"select {', '.join(listed)} from {self._relation}", **options)
        return rows.select(*names)

    def _partition_column(self, types: Mapping[str, ColumnType]) -> str:
        name = self.option("partitionColumn")
        column = _header(types).find(name)
        if column is None:
            [reason] = contract.missing_columns({"partitionColumn": name}, types).values()
            raise self._mistake(reason)
        if types[column].name not in BOUNDS:
            raise self._mistake(
                f"partitionColumn {name!r} is of type {types[column].name}, and no number, date or timestamp"
            )
        return column

    def _partitions(self, session: "SparkSession", column: str, kind: ColumnType) -> dict[str, str]:
        """Spark's options for partitions; {} for a table without values in that column."""
        lower, upper = self.option("lowerBound"), self.option("upperBound")
        if not (lower and upper):
            query = f"select {kind.extremes(quoted(column))} from {self._relation}"
            [bounds] = self._reader(session, query).collect()
            lower, upper = lower or bounds["lower"], upper or bounds["upper"]
        if lower is None or upper is None:
            return {}
        count = self.option("numPartitions", default=str(PARTITIONS))
        return {"partitionColumn": "partition_value", "lowerBound": lower, "upperBound": upper, "numPartitions": count}

    def _mistake(self, reason: str) -> SourceUnreadable:
        return SourceUnreadable(self.uri, reason, next="correct source.options in the config")


def _header(types: Mapping[str, ColumnType]) -> Header:
    return Header(tuple(types), tuple(kind.arrow for kind in types.values()))


def _without_secrets(text: str) -> str:
    for variable in (PASSWORD_VARIABLE, USER_VARIABLE):
        if value := os.environ.get(variable):
            text = text.replace(f'"{value}"', f"of {variable}").replace(value, f"<{variable}>")
    return text


def _driver() -> str:
    from steps.core.spark import jars

    return f"org.postgresql:postgresql:{jars.POSTGRESQL}"
