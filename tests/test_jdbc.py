"""Tables and queries of a real PostgreSQL are read whole, exactly, and without a word of who reads them."""

import datetime as dt
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from place import PROJECT, Ended, Place, new_database, rows_of
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from services import PASSWORD, Postgres, free_port

from steps.core import config
from steps.core.columns import Column
from steps.core.errors import SourceUnreadable
from steps.core.sources import jdbc, jdbc_address, kinds, spark_ingestion
from steps.core.sources.inferred_config import infer_config
from steps.core.sources.jdbc import JdbcTable
from steps.core.spark.session import spark_session

pytestmark = pytest.mark.spark

ROWS = 100_000  # of the table readings
READER = {"PGUSER": "mlflow", "PGPASSWORD": PASSWORD}  # who may read the database
NEW_YORK = "America/New_York"  # where 2024-03-10 has no 02:30
TABLES = """
create type pair as (number int, text text);
create type mood as enum ('sad', 'glad');
create table readings (
    id bigint primary key, value numeric, at timestamp not null, day date, label text not null, score float8);
insert into readings select n, n / 8.0, timestamp '2024-03-10 00:00:00' + n * interval '1 minute',
    date '2024-01-01' + (n % 400)::int, case when n % 3 = 0 then 'low' else 'high' end, sqrt(n)
    from generate_series(1, 100000) n;
create table "odd Names" (id int, "x.y" text, "quote""d" text, "A" int, a int, "größe" int);
insert into "odd Names" values (1, 'dot', 'quote', 10, 20, 30);
create table every_type (
    id int, i2 int2, i8 int8, f4 float4, f8 float8, yes bool, words text, code varchar(10), padded char(5),
    price numeric(10,2), wide numeric, longest numeric(50,3), day date, moment timestamp, moment_at timestamptz,
    u uuid, j json, jb jsonb, mood mood, money money, address inet, o oid,
    numbers int[], texts text[], clock time, clock_at timetz, span interval, bytes bytea, p pair, spread int4range);
insert into every_type values (1, -32768, 9007199254740993, 0.1, 0.1, true, ' blanks ', 'abc', 'ab',
    '12345678.90', '1234567890123456789.123456789', '12345678901234567890123456789012345.678',
    '1500-02-28', '2024-03-10 02:30:00.123456', '2024-03-10 02:30:00.123456+01',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"b": 1}', '{"b": 1}', 'glad', 12.5, '10.0.0.1', 4294967295,
    '{1,2}', '{a}', '12:00', '12:00+01', '1 day', '\\x00ff', '(1,x)', '[1,5)');
insert into every_type (id) values (2);
create table outside (id int, day date, moment timestamp, price numeric(10,2));
insert into outside values (1, 'infinity', '-infinity', 'NaN'), (2, '2024-01-01', '2024-01-01', 1.5),
    (3, '0044-03-15 BC', '20000-01-01', 2);
create table nothing (id int, label text);
create schema crm;
create table crm."Customers" as select 'C' || to_char(n, 'FM0000') as customer_id, n % 37 as months,
    (10 + n % 23)::numeric(8,2) as fee,
    case when n % 5 > 0 then (array['north', 'south'])[n % 2 + 1] end as region,
    case when n % 37 < 12 then 'yes' else 'no' end as churned from generate_series(1, 600) n;
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    server.start()
    server.create("sales")
    server.query(TABLES, database="sales")
    yield server
    server.remove()


@pytest.fixture(scope="module")
def uri(postgres: Postgres) -> str:
    return f"jdbc:postgresql://127.0.0.1:{postgres.port}/sales"


@pytest.fixture(scope="module")
def session(
    served_with_driver: dict[str, str], uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**served_with_driver, **READER}.items():
            patch.setenv(name, value)
        with spark_session(uri, str(tmp_path_factory.mktemp("session")), data_bytes=0) as session:
            yield session


def table(uri: str, **options: str | int) -> JdbcTable:
    source = kinds.resolve(config.Source(uri=uri, options=options))
    assert isinstance(source, JdbcTable)
    return source


def read(session: SparkSession, source: JdbcTable, **columns: Column) -> pa.Table:
    """The rows as the workers would see them, in one batch."""
    found = source.read_by_spark(session, columns)
    rows: pa.Table = found.dataframe.toArrow()
    [raw] = [found.to_raw_rows(batch) for batch in rows.combine_chunks().to_batches()]
    return raw.columns


def text(source: str | None = None) -> Column:
    return Column(type="string", source=source)


class TestTypes:
    def test_each_comes_exactly_and_the_others_stop_nothing(self, session: SparkSession, uri: str) -> None:
        names = "id i2 i8 f4 f8 yes words code padded price wide longest day moment moment_at u j jb mood address o"
        rows = read(session, table(uri, dbtable="every_type"), **{name: text() for name in names.split()})
        first, second = rows.sort_by("id").to_pylist()
        assert first == {
            "id": 1,
            "i2": -32768,
            "i8": 9007199254740993,
            "f4": pytest.approx(0.1, abs=1e-8),
            "f8": 0.1,
            "yes": True,
            "words": " blanks ",
            "code": "abc",
            "padded": "ab",
            "price": Decimal("12345678.90"),
            "wide": Decimal("1234567890123456789.123456789"),
            "longest": Decimal("12345678901234567890123456789012345.678"),
            "day": dt.date(1500, 2, 28),
            "moment": dt.datetime(2024, 3, 10, 2, 30, 0, 123456),
            "moment_at": dt.datetime(2024, 3, 10, 1, 30, 0, 123456, dt.UTC),
            "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "j": '{"b": 1}',
            "jb": '{"b": 1}',
            "mood": "glad",
            "address": "10.0.0.1/32",
            "o": 4294967295,
        }
        assert second == {**dict.fromkeys(names.split()), "id": 2}

    @pytest.mark.parametrize("name", ["numbers", "texts", "clock", "clock_at", "span"])
    def test_one_that_no_column_can_take_is_named_when_it_is_asked_for(
        self, session: SparkSession, uri: str, name: str
    ) -> None:
        with pytest.raises(SourceUnreadable, match=f"its column '{name}' is of type .*, which is no type"):
            read(session, table(uri, dbtable="every_type"), id=text(), x=text(name))

    def test_a_value_that_is_no_date_or_number_stays_the_text_that_it_is(self, session: SparkSession, uri: str) -> None:
        source = table(uri, dbtable="outside")
        rows = read(session, source, id=text(), day=text(), moment=text(), price=text()).sort_by("id")
        assert rows["day"].to_pylist() == ["infinity", "2024-01-01", "0044-03-15 BC"]
        assert rows["moment"].to_pylist() == ["-infinity", "2024-01-01 00:00:00", "20000-01-01 00:00:00"]
        assert rows["price"].to_pylist() == ["NaN", "1.50", "2.00"]

    def test_names_are_found_whatever_they_hold(self, session: SparkSession, uri: str) -> None:
        wanted = {"dot": "x.y", "quote": 'quote"d', "upper": "A", "lower": "a", "umlaut": "größe", "ID": "ID"}
        columns = {name: text(source) for name, source in wanted.items()}
        [row] = read(session, table(uri, dbtable='"odd Names"'), **columns).to_pylist()
        assert row == {"dot": "dot", "quote": "quote", "upper": 10, "lower": 20, "umlaut": 30, "ID": 1}

    def test_times_stand_as_in_the_database_though_java_is_elsewhere(self, session: SparkSession, uri: str) -> None:
        [java] = session.sql("select java_method('java.util.TimeZone', 'getDefault')").collect()
        assert NEW_YORK in java[0]
        query = "select timestamp '2024-03-10 02:30:00' as moment, date '2024-03-10' as day, date '1883-11-18' as old"
        [row] = read(session, table(uri, query=query), moment=text(), day=text(), old=text()).to_pylist()
        assert row["moment"] == dt.datetime(2024, 3, 10, 2, 30)
        assert (row["day"], row["old"]) == (dt.date(2024, 3, 10), dt.date(1883, 11, 18))


def partitions_of(session: SparkSession, source: JdbcTable) -> tuple[list[int], list[int]]:
    """How many rows are in each partition that has any, and all ids."""
    found = source.read_by_spark(session, {"id": text()})

    def ids_of(batches: Iterable[pa.RecordBatch]) -> list[int]:
        return [value for batch in batches for value in batch["id"].to_pylist()]

    ids = [result for _, result in spark_ingestion.run_dataframe(session, found.dataframe, ids_of)]
    return [len(part) for part in ids if part], sorted(value for part in ids for value in part)


class TestPartitions:
    def test_each_row_is_read_once_in_the_partitions_that_are_asked_for(
        self, session: SparkSession, uri: str, postgres: Postgres
    ) -> None:
        source = table(uri, dbtable="readings", partitionColumn="id", numPartitions=4)
        sizes, ids = partitions_of(session, source)
        [[count, total]] = postgres.query("select count(*), sum(id) from readings", database="sales")
        assert (len(ids), len(set(ids)), sum(ids)) == (count, count, total)
        assert len(sizes) == 4
        assert all(size == pytest.approx(count / 4, rel=0.01) for size in sizes)

    @pytest.mark.parametrize("column", ["id", "value", "at", "day", "score"])
    def test_bounds_are_found_for_numbers_dates_and_timestamps(
        self, session: SparkSession, uri: str, column: str
    ) -> None:
        sizes, ids = partitions_of(session, table(uri, dbtable="readings", partitionColumn=column))
        assert ids == list(range(1, ROWS + 1))
        assert len(sizes) == jdbc.PARTITIONS

    def test_rows_outside_of_the_bounds_and_without_a_value_are_read_too(self, session: SparkSession, uri: str) -> None:
        query = "select id, case when id > 10 then id end as part from readings where id <= 1000 -- the first"
        source = table(uri, query=query, partitionColumn="part", lowerBound=400, upperBound=600, numPartitions=3)
        sizes, ids = partitions_of(session, source)
        assert ids == list(range(1, 1001))
        assert len(sizes) == 3

    def test_infinite_days_are_read_beside_the_others(self, session: SparkSession, uri: str) -> None:
        assert partitions_of(session, table(uri, dbtable="outside", partitionColumn="day"))[1] == [1, 2, 3]

    def test_a_table_without_rows_has_none(self, session: SparkSession, uri: str) -> None:
        assert partitions_of(session, table(uri, dbtable="nothing", partitionColumn="id")) == ([], [])

    @pytest.mark.parametrize(("column", "said"), [("label", "is of type text, and no"), ("idd", "did you mean 'id'")])
    def test_a_column_that_cannot_part_rows_is_named(
        self, session: SparkSession, uri: str, column: str, said: str
    ) -> None:
        with pytest.raises(SourceUnreadable, match=said):
            read(session, table(uri, dbtable="readings", partitionColumn=column), id=text())


class TestSettings:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({}, r"pass -P source='jdbc:postgresql://db:5432/sales\?dbtable=schema.table', or write a config with"),
            ({"dbtable": "a", "query": "select 1"}, "dbtable and source.options.query each say what is read"),
            ({"dbtable": "a", "lowerBound": 1}, "go with partitionColumn"),
            ({"dbtable": "a", "fetchsize": "many"}, "fetchsize: 'many' is no whole number"),
            ({"dbtable": "a", "sep": ";"}, "source.options.sep is not for a database"),
            ({"dbtable": "a", "password": PASSWORD}, "say it by PGPASSWORD in the environment"),
            ({"dbtable": "a", "user": "ada"}, "say it by PGUSER in the environment"),
        ],
    )
    def test_a_mistake_in_them_is_told_before_spark_starts(self, options: dict[str, str | int], said: str) -> None:
        with pytest.raises(SourceUnreadable, match=said) as failure:
            table("jdbc:postgresql://db:5432/sales", **options)
        assert PASSWORD not in str(failure.value)

    @pytest.mark.parametrize(
        "address",
        [
            f"jdbc:postgresql://ada:{PASSWORD}@db:5432/sales",
            f"jdbc:postgresql://ada:{PASSWORD}/x@db/sales",
            f"jdbc:postgresql://db/sales?user=ada&password={PASSWORD}",
            f"jdbc:postgresql://db/sales?ssl=true&Pass%77ord={PASSWORD}",
            f"jdbc:postgresql://db/sales?sslpassword={PASSWORD}",
            f"JDBC:postgresql://db/sales?password={PASSWORD}",
            f"postgresql://ada:{PASSWORD}@db/sales",
        ],
    )
    @pytest.mark.parametrize("options", [{"dbtable": "a"}, {}])
    def test_an_address_with_a_password_is_refused_and_not_repeated(
        self, address: str, options: dict[str, str | int]
    ) -> None:
        with pytest.raises(SourceUnreadable, match="PGPASSWORD in the environment|jdbc:postgresql://host") as failure:
            table(address, **options)
        assert PASSWORD not in str(failure.value)

    def test_a_password_in_the_address_is_not_repeated_for_a_mistake_in_the_options(self) -> None:
        address = f"jdbc:postgresql://db/sales?password={PASSWORD}"
        with pytest.raises(SourceUnreadable, match="holds a user or a password") as failure:
            kinds.resolve(config.Source(uri=address, format="x", options={"password": PASSWORD}))
        assert PASSWORD not in str(failure.value)

    @pytest.mark.parametrize(
        ("parameters", "named_after", "others"),
        [
            ("dbtable=customers", "customers", ""),
            ("dbtable=crm.customers&ssl=true", "customers", "?ssl=true"),
            ("options=-c%20x=1&dbtable=%22crm%22.%22Odd%20Names%22", "Odd Names", "?options=-c%20x=1"),
            ("dbtable=größe_1$", "größe_1$", ""),
        ],
    )
    def test_a_table_in_the_address_is_read_by_that_name_and_no_business_of_the_driver(
        self, parameters: str, named_after: str, others: str
    ) -> None:
        source = table(f"jdbc:postgresql://db/sales?{parameters}")
        assert source.named_after == named_after
        assert jdbc_address.without_table(source.uri) == f"jdbc:postgresql://db/sales{others}"

    @pytest.mark.parametrize("name", ["(select%201)%20as%20x", "a;drop%20table%20b", "a.b.c", "%22a", "a%20b"])
    def test_what_is_no_name_of_a_table_is_none_in_an_address(self, name: str) -> None:
        with pytest.raises(SourceUnreadable, match="dbtable in its address is no name of a table"):
            table(f"jdbc:postgresql://db/sales?dbtable={name}")

    def test_a_table_that_is_named_twice_is_refused(self) -> None:
        with pytest.raises(SourceUnreadable, match="source.options.query and dbtable in its address each say"):
            table("jdbc:postgresql://db/sales?dbtable=a", query="select 1")

    @pytest.mark.parametrize("address", ["jdbc:mysql://db/sales", "jdbc:postgresql://db", "jdbc:postgresql:sales"])
    def test_another_database_is_refused(self, address: str) -> None:
        with pytest.raises(SourceUnreadable, match="not the address of a PostgreSQL database"):
            table(address, dbtable="a")


class TestFailures:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"dbtable": "nowhere"}, 'relation "nowhere" does not exist'),
            ({"query": "select no_such from readings"}, 'column "no_such" does not exist'),
            ({"query": "select id, id from readings"}, "has two columns 'id'"),
            ({"query": "selct id"}, "syntax error"),
            ({"query": "select 1 / (id - 50000) as id from readings"}, "division by zero"),
        ],
    )
    def test_what_the_database_says_is_one_message(
        self, session: SparkSession, uri: str, options: dict[str, str | int], said: str
    ) -> None:
        source = table(uri, **options)
        with pytest.raises(PySparkException, match=r"PSQLException|COLUMN_ALREADY_EXISTS") as raised:
            read(session, source, id=text())
        failure = source.failure(raised.value)
        assert isinstance(failure, SourceUnreadable)
        assert said in str(failure)
        assert str(failure).count("\n") == 2

    def test_a_wrong_password_is_told_without_it(
        self, session: SparkSession, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGPASSWORD", f"not-{PASSWORD}")
        with pytest.raises(PySparkException, match="PSQLException") as raised:
            read(session, table(uri, dbtable="readings"), id=text())
        message = str(table(uri, dbtable="readings").failure(raised.value))
        assert "password authentication failed for user of PGUSER" in message
        assert "correct PGUSER and PGPASSWORD in the environment" in message
        assert PASSWORD not in message

    @pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
    def test_a_server_that_is_not_there_is_told(self, session: SparkSession, host: str) -> None:
        source = table(f"jdbc:postgresql://{host}:{free_port()}/sales", dbtable="readings")
        with pytest.raises(PySparkException, match="PSQLException") as raised:
            read(session, source, id=text())
        assert "next      start the database, or correct source.uri" in str(source.failure(raised.value))

    def test_an_error_that_is_not_the_databases_is_left_as_it_is(self, uri: str) -> None:
        assert table(uri, dbtable="readings").failure(ValueError("no such thing")) is None

    def test_the_plan_of_the_rows_shows_no_password(
        self, session: SparkSession, uri: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table(uri, dbtable="readings").read_by_spark(session, {"id": text()}).dataframe.explain(True)
        shown = capsys.readouterr().out
        assert "JDBCRelation" in shown
        assert PASSWORD not in shown


CONTRACT: dict[str, Any] = {
    "id": {"type": "long"},
    "value": {"type": "decimal(12,3)"},
    "at": {"type": "timestamp", "feature": False},
    "day": {"type": "date", "feature": False},
    "label": {"type": "string"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, served_with_driver: dict[str, str]) -> Place:
    """Where a user in New York stands, who may read the database."""
    folder = tmp_path_factory.mktemp("jdbc")
    new_database(folder)
    (folder / "tmp").mkdir()
    surroundings = {"PYTHONPATH": str(PROJECT), "TZ": NEW_YORK, "TMPDIR": str(folder / "tmp")}
    return Place(folder, {**served_with_driver, **surroundings, **READER})


def ingest(place: Place, uri: str, *, mode: str = "replace", **options: object) -> Ended:
    source = {"uri": uri, "options": options}
    changes = {"columns": CONTRACT, "target": "label", "key": ["id"], "mode": mode}
    return place.step("ingest", config=place.config(name="readings", source=source, **changes))


@pytest.fixture(scope="module")
def ingested(place: Place, uri: str) -> Ended:
    return ingest(place, uri, dbtable="readings", partitionColumn="id", numPartitions=4)


@pytest.fixture(scope="module")
def own_data(place: Place, uri: str) -> Ended:
    """`main` of a table and a target, without a config."""
    return place.step("main", source=f"{uri}?dbtable=crm.%22Customers%22", target="churned")


class TestIngest:
    def test_the_table_holds_what_the_database_does(self, place: Place, ingested: Ended, postgres: Postgres) -> None:
        assert ingested.exit_code == 0, ingested.text
        assert ingested.out == f"ingest: table = {place.lake('readings@v0')}\n"
        stored = sorted(rows_of(place.lake("readings"), 0).to_pylist(), key=lambda row: row["id"])
        expected = postgres.query("select id, value, at, day, label from readings order by id", database="sales")
        assert [tuple(row.values()) for row in stored] == [
            (number, value.quantize(Decimal("0.001")), at.replace(tzinfo=dt.UTC), day, label)
            for number, value, at, day, label in expected
        ]

    def test_another_ingest_reads_it_again_and_writes_no_version(self, place: Place, uri: str, ingested: Ended) -> None:
        again = ingest(place, uri, query="select * from readings order by label;")
        assert again.out == ingested.out, again.text
        assert f"only the rows of {uri} tell whether it has changed; this run will not be reused" in again.err

    def test_other_rows_are_a_new_version(self, place: Place, uri: str, ingested: Ended) -> None:
        changed = ingest(place, uri, query="select * from readings where id < 1000")
        assert changed.out == f"ingest: table = {place.lake('readings@v1')}\n", changed.text
        assert rows_of(place.lake("readings")).num_rows == 999

    def test_append_is_refused_as_there_are_no_files(self, place: Place, uri: str) -> None:
        refused = ingest(place, uri, mode="append", dbtable="readings")
        assert refused.exit_code == 1
        assert "`mode: append` reads new files only, and it has none" in refused.err
        assert "Traceback" not in refused.err

    @pytest.mark.parametrize(
        ("extra", "options", "said"),
        [
            ({"PGPASSWORD": f"not-{PASSWORD}"}, {"dbtable": "readings"}, "correct PGUSER and PGPASSWORD"),
            ({}, {"dbtable": "nowhere"}, 'relation "nowhere" does not exist'),
            ({}, {"query": "select id, value, at, day from readings"}, "it has no column 'label', the target"),
        ],
    )
    def test_what_is_wrong_is_one_message(
        self, place: Place, uri: str, extra: dict[str, str], options: dict[str, str], said: str
    ) -> None:
        ended = ingest(Place(place.folder, {**place.extra, **extra}), uri, **options)
        assert ended.exit_code == 1, ended.text
        assert said in ended.err
        assert "Traceback" not in ended.err
        assert ended.err.count("\n  next      ") == 1

    def test_nothing_that_is_left_holds_the_password(
        self, place: Place, ingested: Ended, own_data: Ended, served_with_driver: dict[str, str]
    ) -> None:
        spark = Path(served_with_driver["WORKFLOW_SPARK"])
        files = [path for folder in (place.folder, spark) for path in folder.rglob("*") if path.is_file()]
        assert {place.folder / "mlflow.db", spark / "spark.log"} <= {*files}
        assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []
        assert PASSWORD not in ingested.text + own_data.text

    def test_a_config_is_inferred_from_its_types_and_first_rows(self, session: SparkSession, uri: str) -> None:
        source = table(
            uri, query="select id, value, at, day, label, score, value::numeric(20,5) as price from readings"
        )
        inferred = yaml.safe_load(infer_config(source, target="label", name="readings").text)
        assert inferred["source"] == {"uri": uri, "options": dict(source.settings.options)}
        types = {name: column["type"] for name, column in inferred["columns"].items()}
        assert types == {
            "id": "long",
            "value": "double",
            "at": "timestamp",
            "day": "date",
            "label": "string",
            "score": "double",
            "price": "decimal(20,5)",
        }

    def test_a_table_and_a_target_are_enough_for_all_steps(self, place: Place, own_data: Ended) -> None:
        assert own_data.exit_code == 0, own_data.text
        assert "inferred from all 600 rows of 5 columns" in own_data.err
        assert "evaluate  pass, models:/Customers_model/1" in own_data.out
        predictions = rows_of(place.lake("Customers_predictions"))
        assert predictions.num_rows == 600
        assert {*predictions["prediction"].to_pylist()} == {"yes", "no"}
