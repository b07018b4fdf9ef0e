"""The server in this process, on a real socket and a real registry: what it refuses, describes, counts and follows."""

import datetime as dt
import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import requests
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from mlflow.types import ColSpec, Schema
from place import until
from served import CSV, FEATURES, FOLLOWED, JSON, NAME, PARQUET, ROW, Running, point, register, registry_in, running
from small import FLOWERS, QUICK, fit, flower_parts, flowers, flowers_config, flowers_model

from steps.core.columns import Column
from steps.core.errors import AddressUnusable, ModelNotFound, TableUnfit
from steps.core.models.features import FEATURE_TYPES
from steps.core.models.scorer import Feature, Scorer
from steps.core.models.split import settings_of as split_settings
from steps.core.models.split import split as split_rows
from steps.core.serving import http_server, invocations, request_body
from steps.core.serving.refusals import Refused
from steps.core.sources import exact_value, refusals

PINNED = f"models:/{NAME}/1"


@pytest.fixture(scope="module", autouse=True)
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A registry with three versions that answer differently; `production` names the first."""
    folder = tmp_path_factory.mktemp("registry")
    with registry_in(folder):
        for model in (flowers_model(), weaker_model(max_depth=1), weaker_model(max_depth=2)):
            register(model)
        point("production", "1")
        yield folder


@pytest.fixture(scope="module")
def server(registry: Path) -> Iterator[Running]:
    with running(PINNED) as server:
        yield server


@pytest.fixture
def following(registry: Path) -> Iterator[Running]:
    point("production", "1")
    with running(FOLLOWED) as server:
        yield server


def weaker_model(**changes: Any) -> Scorer:
    return fit(flowers_config(model={**FLOWERS["model"], **changes}), flower_parts())


def records(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"dataframe_records": list(rows)}


def split(rows: list[list[Any]], *, columns: Any = FEATURES) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": rows}}


def error_of(response: requests.Response) -> str:
    """The message of a refusal, which has MLflow's shape and no traceback in it."""
    content = response.json()
    assert set(content) == {"error_code", "message"}
    assert "Traceback" not in response.text
    assert 'File "' not in response.text
    return str(content["message"])


LONG = list(ROW.values())
BAD_BODIES: dict[str, tuple[Any, str]] = {
    "no body": (b"", "the body is empty; a JSON object with one of dataframe_split"),
    "blanks": (b"  \n", "the body is empty"),
    "half of a JSON": (b'{"dataframe_split": {"columns": [', "the body is not JSON: Expecting value"),
    "bytes of another encoding": ('{"inputs": "é"}'.encode("latin-1"), "the body is not JSON: 'utf-8' codec"),
    "zeros": (b"\0\0\0\0", "the body is not JSON"),
    "brackets without end": (b"[" * 100_000, "the body is not JSON"),
    "a number of too many digits": (b'{"inputs": ' + b"9" * 5000 + b"}", "the body is not JSON: Exceeds the limit"),
    "a list": ([ROW], "the body is a list; a JSON object with one of dataframe_split"),
    "text": (b'"rows"', "the body is text; a JSON object"),
    "null": (b"null", "the body is null; a JSON object"),
    "another key": ({"rows": [ROW]}, r"the body has the keys \['rows'\]; exactly one of dataframe_split"),
    "two of the keys": ({**records(ROW), "inputs": [ROW]}, "exactly one of dataframe_split"),
    "chat": ({"messages": [{"role": "user", "content": "hello"}]}, "exactly one of dataframe_split"),
    "records that are none": ({"dataframe_records": ROW}, "must be a list of records. Got dictionary"),
    "a split without data": ({"dataframe_split": {"columns": FEATURES}}, "must have 'data' field"),
    "a split that is a list": ({"dataframe_split": [LONG]}, "must be a dictionary. Got list"),
    "a row that is too long": (split([LONG, [*LONG, 7]]), "4 columns passed, passed data had 5 columns"),
    "a column of another length": ({"inputs": {**{n: [v] for n, v in ROW.items()}, "wild": [True, False]}}, "length"),
    "no columns": (records({}), "the columns petal_length, petals, wild, color are missing"),
    "a column under another name": (
        records({"colour" if name == "color" else name: value for name, value in ROW.items()}),
        "the columns color are missing; others are there: colour",
    ),
    "a column that is there twice": (
        split([[*LONG, "blue"]], columns=[*FEATURES, "color"]),
        "the columns color are there more than once",
    ),
    "no rows": ({"dataframe_records": []}, "the body has no rows"),
    "more of an index than rows": (
        {"dataframe_split": {"columns": FEATURES, "index": [1, 2], "data": [LONG]}},
        "its index has 2 values for 1 rows",
    ),
    "another encoding": (json.dumps(records(ROW)).encode("utf-16"), "the body is not JSON: 'utf-8' codec can't"),
    "a whole number beyond 64 bits": (records({**ROW, "petals": 2**63}), f"'petals': {2**63} is not a whole number"),
    "names that are no text": (split([LONG], columns=[1, 2, 3, 4]), "the columns of its rows have no names"),
    "names in lists": (split([LONG], columns=[[name] for name in FEATURES]), "columns passed"),
    "numbers alone": ({"inputs": [1, 2]}, "the columns of its rows have no names; send objects"),
    "one number": ({"instances": 5}, "are missing|no table|valid"),
    "a nested value": (records(ROW, {**ROW, "petals": {"a": 1}}), "row 1, column 'petals': {'a': 1} is not a whole"),
    "a huge number": (records({**ROW, "petals": 10**30}), f"row 0, column 'petals': {10**30} is not a whole number"),
    "Infinity": (b'{"inputs": [%s]}' % json.dumps({**ROW, "petal_length": float("inf")}).encode(), "inf is not a fin"),
    "half of a pair of surrogates": (rb'{"inputs": [{"petals": "\ud800"}]}', "are missing"),
    "several mistakes": (
        records({**ROW, "petals": "x", "wild": 3}, {**ROW, "petals": "y"}),
        "column 'petals': 'x' is not a whole number of 64 bits, and 1 more in this column; row 0, column 'wild': 3 is",
    ),
}


class TestWhatIsRefused:
    @pytest.mark.parametrize(("body", "reason"), BAD_BODIES.values(), ids=BAD_BODIES)
    def test_a_bad_body_is_the_clients_mistake_and_says_what_is_wrong(
        self, server: Running, body: Any, reason: str
    ) -> None:
        response = server.post(body)
        assert response.status_code == 400
        assert re.search(reason, error_of(response))
        assert response.headers["X-Model-Uri"] == PINNED

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            (None, "Content-Type is 'missing'"),
            ("", "Content-Type is 'missing'"),
            ("text/plain", "Content-Type is 'text/plain'; application/json, text/csv or application/vnd"),
            ("application/json; charset=latin-1", "charset=latin-1; utf-8 is expected"),
            (";;;", "Content-Type is 'missing'"),
        ],
    )
    def test_another_type_of_body_is_named_with_those_that_are_taken(
        self, server: Running, kind: str | None, reason: str
    ) -> None:
        response = server.post(json.dumps(records(ROW)).encode(), kind)
        assert response.status_code == 415
        assert reason in error_of(response)

    def test_a_compressed_body_is_named(self, server: Running) -> None:
        body, headers = (
            gzip.compress(json.dumps(records(ROW)).encode()),
            {"Content-Type": JSON, "Content-Encoding": "gzip"},
        )
        response = requests.post(f"{server.url}/invocations", data=body, headers=headers, timeout=60)
        assert response.status_code == 415
        assert "Content-Encoding is 'gzip'; a body that is not compressed is expected" in error_of(response)

    @pytest.mark.parametrize(
        ("kind", "body", "reason"),
        [
            (CSV, b"", "the body is no table as text/csv has it: Empty CSV file"),
            (CSV, b"\xff\xfe", "the body is no table as text/csv has it: 'utf-8' codec"),
            (
                CSV,
                b"petals,petal_length,wild,color,petals\n1,2,1,red,3\n",
                "the columns petals are there more than once",
            ),
            (CSV, b"petal_length,petals\n1,2\n", "the columns wild, color are missing"),
            (CSV, b"petal_length;petals;wild;color\n1;2;1;red\n", "are separated by ';'; commas are expected"),
            (CSV, b"petal_length,petals,wild,color,,\n1,2,1,red,,\n", "the columns '' are there more than once"),
            (CSV, b'a,b\n"1', "no table as text/csv has it|are missing"),
            (
                CSV,
                b"petal_length,petals,wild,color\n1,x,maybe,red\n",
                "row 0, column 'petals': values such as 'x' are not of type long; row 0, column 'wild': values such as",
            ),
            (PARQUET, b"", "no table as application/vnd.apache.parquet"),
            (PARQUET, b"PAR1" * 10, "no table as application/vnd.apache.parquet"),
        ],
    )
    def test_a_bad_file_is_the_clients_mistake(self, server: Running, kind: str, body: bytes, reason: str) -> None:
        response = server.post(body, kind)
        assert response.status_code == 400
        assert re.search(reason, error_of(response))

    @QUICK
    @given(body=st.binary(max_size=200), kind=st.sampled_from([JSON, CSV, PARQUET, "text/plain"]))
    def test_no_bytes_are_an_error_of_the_server(self, server: Running, body: bytes, kind: str) -> None:
        response = server.post(body, kind)
        assert 200 <= response.status_code < 500
        assert response.status_code == 200 or error_of(response)

    @QUICK
    @given(
        content=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["columns", "data", "index", *FEATURES, "x"]), inner, max_size=5)
            ),
            max_leaves=12,
        ),
        form=st.sampled_from(["dataframe_split", "dataframe_records", "inputs", "instances"]),
    )
    def test_no_json_is_an_error_of_the_server(self, server: Running, content: Any, form: str) -> None:
        response = server.post({form: content})
        assert 200 <= response.status_code < 500
        assert response.status_code == 200 or error_of(response)

    @pytest.mark.parametrize(("method", "path", "status"), [("GET", "/invocations", 405), ("GET", "/predict", 404)])
    def test_a_path_or_method_that_there_is_not_is_said_in_the_same_shape(
        self, server: Running, method: str, path: str, status: int
    ) -> None:
        response = requests.request(method, f"{server.url}{path}", timeout=10)
        assert response.status_code == status
        assert f"{method} {path}" in error_of(response)
        assert response.headers["X-Model-Uri"] == PINNED


NOT_A_NUMBER = json.dumps({**ROW, "petal_length": float("nan")}).encode()  # as pandas' users send what is missing


class TestCsv:
    def test_a_column_of_csv_may_have_any_name(self) -> None:
        names = ["self", "a b", "class"]
        features = [Feature(name=name, type="long") for name in names]
        body = ",".join(names) + "\n1,2,3\n"
        rows = request_body.parse(
            body.encode(), CSV, schema=Schema([ColSpec("long", "self")]), features=features, row_limit=1
        )
        assert rows.to_dict("records") == [{"self": 1, "a b": 2, "class": 3}]

    def test_a_cell_of_csv_is_read_by_its_feature_whatever_the_other_rows_have(self, server: Running) -> None:
        header = "petal_length,petals,wild,color"
        rows = {
            "1.5,-9223372036854775808,true,red": (1.5, -(2**63), True, "red"),
            ",,,": (None, None, None, None),
            "1e3, 7.0,0,7": (1000.0, 7, False, "7"),
            "9007199254740992,+8,yes,true": (2.0**53, 8, True, "true"),
            "nan,0,F,nan": (None, 0, False, "nan"),
        }
        records = [dict(zip(header.split(","), values, strict=True)) for values in rows.values()]
        expected = server.post(json.dumps({"dataframe_records": records})).json()
        assert server.post("\n".join([header, *rows]), CSV).json() == expected
        alone = [server.post(f"{header}\n{row}", CSV).json()["predictions"][0] for row in rows]
        assert alone == expected["predictions"]

    @pytest.mark.parametrize(
        "kind", ["string", "boolean", "int", "long", "float", "double", "decimal(6,2)", "date", "timestamp"]
    )
    def test_a_cell_of_csv_is_taken_where_ingest_takes_it(self, kind: str) -> None:
        column = Column(type=kind)
        feature = Feature(name="x", type=FEATURE_TYPES[column.kind], as_text=column.as_text())

        def taken(cell: str) -> Any:
            schema = Schema([ColSpec("long", "x")])
            rows = request_body.parse(f"x,y\n{cell},1\n".encode(), CSV, schema=schema, features=[feature], row_limit=1)
            return None if pd.isna(rows["x"][0]) else rows["x"][0]

        for cell in (
            *("1", " ", "true", "12.50", "99999999999", "12345678.999", "9007199254740993", "3.5e38", "1e400"),
            *("2024-03-01", "20240301", "2024-W09-5", "2024-03-01T10:00:00.123456789", "2024-03-01 10:00:00 UTC"),
            "0001-01-01T00:00:00+05:00",
        ):
            try:
                expected = exact_value.exact(cell, column)
            except refusals.Refused:
                with pytest.raises(Refused, match="row 0, column 'x': values such as"):
                    taken(cell)
            else:
                assert taken(cell) == expected, cell

    @pytest.mark.parametrize("time_format", ["%Y%m%d", "%d%m%Y", "%Y%d%m", "%d.%m.%Y"])
    @pytest.mark.parametrize("kind", ["date", "timestamp"])
    def test_a_day_of_json_and_parquet_is_read_by_the_format_as_ingest_reads_it(
        self, kind: str, time_format: str
    ) -> None:
        column = Column(type=kind, format=time_format, zone="Europe/Berlin" if kind == "timestamp" else None)
        feature = Feature(name="x", type=FEATURE_TYPES[kind], as_text=column.as_text())
        day = dt.date(2024, 3, 4)
        written = day.strftime(time_format)
        whole = [int(written)] if written.isdigit() and written[0] != "0" else []  # which a number would lose
        values = [written, f" {written} ", *whole]
        expected = [exact_value.exact(value, column) for value in values]
        for rows in ({"x": np.array(values, dtype=object)}, pd.DataFrame({"x": pd.Series(values, dtype=object)})):
            assert list(request_body.with_dates(rows, [feature])["x"]) == expected
        typed = pd.DataFrame({"x": np.array(whole, dtype=np.int64)})
        assert list(request_body.with_dates(typed, [feature])["x"]) == expected[2:]

    def test_what_the_format_does_not_say_stays_as_it_is(self) -> None:
        column = Column(type="date", format="%Y%d%m")
        feature = Feature(name="x", type="date", as_text=column.as_text())
        values: list[Any] = [
            "2024-03-04",
            "2024-03-04T00:00:00",
            None,
            True,
            1.5,
            "soon",
            7,
            day := dt.date(2024, 3, 4),
        ]
        rows = request_body.with_dates({"x": np.array(values, dtype=object), "y": np.array([1])}, [feature])
        assert list(rows["x"]) == [*values[:-1], day]

    @pytest.mark.parametrize("day", ["\ud800", "2024\udc00", "\0", "9" * 400])
    def test_a_text_that_is_no_day_by_the_format_is_refused_by_its_row(self, registry: Path, day: str) -> None:
        rows = flowers().assign(day=dt.date(2024, 3, 4))
        settings = flowers_config(columns={**FLOWERS["columns"], "day": {"type": "date", "format": "%Y%m%d"}})
        version = register(
            fit(settings, split_rows(rows, split_settings(settings))), example=rows[[*FEATURES, "day"]][:3]
        )
        with running(f"models:/{NAME}/{version}") as server:
            assert server.post(records({**ROW, "day": "20240304"})).status_code == 200
            response = server.post(records({**ROW, "day": "20240304"}, {**ROW, "day": day}))
            assert response.status_code == 400
            assert "row 1, column 'day': " in error_of(response)
            assert "is not a date" in error_of(response)

    def test_a_blank_line_of_one_column_is_a_row_and_of_several_none(self) -> None:
        def rows(text: bytes, *names: str) -> list[Any]:
            features = [Feature(name=name, type="long") for name in names]
            schema = Schema([ColSpec("long", names[0])])
            parsed = request_body.parse(text, CSV, schema=schema, features=features, row_limit=9)
            return list(parsed["x"])

        assert [None if pd.isna(value) else value for value in rows(b"x\n1\n\n2\n", "x")] == [1, None, 2]
        assert rows(b"x,y\n1,1\n\n2,2\n", "x", "y") == [1, 2]

    def test_blanks_around_the_names_of_csv_are_no_part_of_them(self, server: Running) -> None:
        plain = server.post("petal_length,petals,wild,color\n1.5,2,true,red", CSV)
        assert server.post("petal_length, petals ,wild, color\n1.5,2,true,red", CSV).json() == plain.json()

    @pytest.mark.parametrize("row", ["1.5,2,true,red,9", "1.5,2,true,red,", "1.5,2,true", "1.5"])
    def test_a_row_of_csv_that_is_longer_or_shorter_than_the_header_is_refused_by_its_number(
        self, server: Running, row: str
    ) -> None:
        for rows, number in (([row], 2), ([row, row], 2), (["1.5,2,true,red", row], 3)):
            response = server.post("\n".join(["petal_length,petals,wild,color", *rows]), CSV)
            assert response.status_code == 400
            assert f"Row #{number}: Expected 4 columns, got {row.count(',') + 1}" in error_of(response)


class TestLimits:
    @pytest.fixture(scope="class")
    @classmethod
    def small(cls, registry: Path) -> Iterator[Running]:
        with running(PINNED, body_bytes=50_000, rows=20, seconds=1) as server:
            yield server

    @pytest.mark.parametrize("form", ["dataframe_records", "inputs", CSV, PARQUET])
    def test_too_many_rows_are_refused_with_both_numbers(self, small: Running, form: str) -> None:
        frame = pd.DataFrame([ROW] * 21)
        bodies = {CSV: frame.to_csv(index=False).encode(), PARQUET: frame.to_parquet()}
        body = bodies.get(form) or {form: frame.to_dict(orient="records")}
        response = small.post(body, form if form in bodies else JSON)
        assert response.status_code == 413
        assert error_of(response) == "the body has 21 rows; at most 20 are taken at once"

    def test_as_many_rows_as_are_allowed_are_answered(self, small: Running) -> None:
        assert len(small.post(records(*[ROW] * 20)).json()["predictions"]) == 20

    def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_its_size(self, small: Running) -> None:
        body = json.dumps(records(*[ROW] * 1000)).encode()
        assert len(body) > 50_000
        for sent in (body, iter([body[:40_000], body[40_000:]])):
            response = small.post(sent)
            assert response.status_code == 413
            assert error_of(response) == "the body has more than 50000 bytes"

    def test_a_body_that_does_not_arrive_is_given_up(self, small: Running) -> None:
        began = time.monotonic()
        with half_a_request(small, length=100, body=b"{") as connection:
            assert b" 408 " in connection.recv(2**16)
        assert 0.9 < time.monotonic() - began < 5

    def test_an_answer_that_takes_too_long_is_given_up(self, small: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        model = small.service.followed.now
        slow = type(model.scorer)()
        slow.booster, slow.schema = model.scorer.booster, model.scorer.schema
        monkeypatch.setattr(slow, "answers", lambda rows: time.sleep(3), raising=False)
        monkeypatch.setattr(small.service.followed, "now", type(model)(**{**vars_of(model), "scorer": slow}))
        response = small.post(pd.DataFrame([ROW]).to_csv(index=False), CSV)
        assert response.status_code == 504
        assert "the answer takes more than 1" in error_of(response)

    def test_more_large_requests_than_there_is_room_for_are_told_to_come_again(self, registry: Path) -> None:
        with running(PINNED, seconds=5) as server:
            begun = [
                half_a_request(server, length=100_000, body=b" " * (invocations.INLINE_BYTES + 1))
                for _ in range(invocations.LARGE_AT_ONCE)
            ]
            assert until(lambda: server.service._invocations._large == invocations.LARGE_AT_ONCE)
            response = server.post(b" " * 30_000)
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "1"
            assert "large requests are at work" in error_of(response)
            assert server.post(records(ROW)).status_code == 200
            for connection in begun:
                connection.close()
            assert until(lambda: server.service._invocations._large == 0)

    def test_many_small_requests_at_once_are_all_answered_in_any_form(self, server: Running) -> None:
        bodies = [(pd.DataFrame([ROW]).to_csv(index=False), CSV), (b'{"inputs": [%s]}' % NOT_A_NUMBER, JSON)] * 50
        with ThreadPoolExecutor(50) as pool:
            statuses = list(pool.map(lambda body: server.post(*body).status_code, bodies))
        assert statuses == [200] * 100

    def test_small_requests_go_on_beside_a_large_one(self, registry: Path) -> None:
        with running(PINNED, rows=10**6, body_bytes=2**27) as server:
            body = json.dumps(records(*[ROW] * 100_000))
            large = threading.Thread(target=server.post, args=(body,))
            large.start()
            seconds = []
            while large.is_alive():
                began = time.monotonic()
                assert server.post(records(ROW)).status_code == 200
                seconds.append(time.monotonic() - began)
            assert len(seconds) > 3


def vars_of(model: Any) -> dict[str, Any]:
    return {name: getattr(model, name) for name in model.__dataclass_fields__}


def half_a_request(server: Running, *, length: int, body: bytes) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


class TestKeys:
    """What a row of JSON does not have is refused beside others as it is alone."""

    @pytest.mark.parametrize("form", ["dataframe_records", "instances", "inputs"])
    def test_a_row_that_lacks_one_is_refused_whatever_the_other_rows_have(self, form: str, server: Running) -> None:
        lacking = {name: value for name, value in ROW.items() if name != "petals"}
        for rows in ([ROW, lacking], [lacking, ROW], [ROW, {**lacking, "Petals": 5}]):
            response = server.post(json.dumps({form: rows}))
            assert response.status_code == 400
            assert "the columns petals are missing, which other rows have" in error_of(response)
        assert "others are there: Petals" in error_of(response)
        if form != "instances":  # of which MLflow asks that all rows have the same keys
            assert server.post(json.dumps({form: [ROW, {**ROW, "more": 1}]})).status_code == 200

    @pytest.mark.parametrize(
        "body",
        [
            b'{"dataframe_records": [%s, %s]}'
            % (json.dumps(ROW).encode(), json.dumps(ROW).encode()[:-1] + b', "petals": 9}'),
            b'{"dataframe_records": [%s], "dataframe_records": [%s]}' % ((json.dumps(ROW).encode(),) * 2),
            b'{"dataframe_split": {"columns": ["a"], "data": [[1]], "data" : [[2]]}}',
            b'{"inputs": {"petals": [1], "petals": [2]}}',
        ],
        ids=["a column", "the form", "data", "a column of columns"],
    )
    def test_one_that_is_there_twice_is_refused(self, body: bytes, server: Running) -> None:
        response = server.post(body)
        assert response.status_code == 400
        assert re.search(r"an object has the key '(petals|data|dataframe_records)' twice", error_of(response))

    @pytest.mark.parametrize("blanks", ["", " ", "  ", "\t", "\n", "\r\n", " \t \n"])
    def test_one_that_is_there_twice_is_refused_whatever_stands_before_its_colon(
        self, blanks: str, server: Running
    ) -> None:
        body = json.dumps({"dataframe_records": [ROW]})
        twice = body.replace('"petals":', f'"petals": 6, "petals"{blanks}:')
        assert server.post(body.replace('"petals":', f'"petals"{blanks}:')).status_code == 200
        response = server.post(twice)
        assert response.status_code == 400
        assert "an object has the key 'petals' twice" in error_of(response)

    @pytest.mark.parametrize("form", [{}, {"indent": 2}, {"separators": ("\t, ", "\n : ")}])
    @pytest.mark.parametrize("color", ["red", "at 9:30", "{a: b}"])
    def test_ones_that_are_there_once_need_no_careful_parser(self, form: dict[str, Any], color: str) -> None:
        body = json.dumps(records({**ROW, "color": color}), **form).encode()
        columns = request_body.plain_columns(body, FEATURES)
        assert columns is not None
        assert {name: values.tolist() for name, values in columns.items()} == {
            name: [value] for name, value in {**ROW, "color": color}.items()
        }

    def test_text_that_looks_like_one_is_text(self, server: Running) -> None:
        rows = [{**ROW, "color": color} for color in ('"petals": 1', "red")]
        told = server.post(json.dumps({"dataframe_records": rows})).json()["predictions"]
        assert told == [server.post(json.dumps({"dataframe_records": [row]})).json()["predictions"][0] for row in rows]


class TestWhatItSaysOfItself:
    def test_the_example_of_its_description_is_answered(self, server: Running) -> None:
        described = server.get("/openapi.json").json()
        content = described["paths"]["/invocations"]["post"]["requestBody"]["content"][JSON]
        response = server.post(content["example"])
        assert response.status_code == 200
        assert len(response.json()["predictions"]) == len(content["example"]["dataframe_records"]) == 2

    def test_each_page_is_of_the_type_that_its_description_says(self, server: Running) -> None:
        described = server.get("/openapi.json").json()["paths"]
        pages = [(path, methods["get"]) for path, methods in described.items() if "get" in methods]
        assert {path for path, _ in pages} == {"/ping", "/health", "/version", "/metrics"}
        for path, page in pages:
            ((media_type, _),) = page["responses"]["200"]["content"].items()
            assert server.get(path).headers["Content-Type"].partition(";")[0] == media_type, path

    def test_its_description_has_the_models_columns_and_what_it_answers(self, server: Running) -> None:
        schemas = server.get("/openapi.json").json()["components"]["schemas"]
        types = {name: value["type"] for name, value in schemas["Row"]["properties"].items()}
        assert types == {
            **{"petal_length": ["number", "null"], "petals": ["integer", "null"]},
            **{"wild": ["boolean", "null"], "color": ["string", "null"]},
        }
        assert schemas["Row"]["required"] == FEATURES
        assert schemas["Row"]["properties"]["color"]["description"].startswith("In training: blue, red, white.")
        answer = server.post(records(ROW)).json()["predictions"][0]
        assert set(answer) == set(schemas["Prediction"]["required"])
        assert answer["prediction"] in schemas["Prediction"]["properties"]["prediction"]["enum"]

    def test_its_pages_are_there(self, server: Running) -> None:
        assert server.get("/ping").content == b"\n"
        assert server.get("/version").text == mlflow.__version__
        assert "/openapi.json" in server.get("/docs").text
        for path in ("/ping", "/health", "/version", "/metrics"):
            assert server.get(path).headers["X-Model-Uri"] == PINNED

    def test_a_request_keeps_its_id_or_is_given_one(self, server: Running) -> None:
        assert server.post(records(ROW), **{"X-Request-Id": "order-17"}).headers["X-Request-Id"] == "order-17"
        ids = {server.post(records(ROW), **given).headers["X-Request-Id"] for given in ({}, {}, {"X-Request-Id": ""})}
        assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
        assert len(ids) == 3
        assert len(server.post(records(ROW), **{"X-Request-Id": "x" * 500}).headers["X-Request-Id"]) == 32


def numbers(server: Running) -> dict[str, float]:
    """The metrics, as Prometheus reads them."""
    lines = [line.rpartition(" ") for line in server.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_its_metrics_are_what_was_sent(registry: Path) -> None:
    with running(PINNED, rows=20) as server:
        for body in (records(ROW), records(ROW, ROW), records(*[ROW] * 21), {}, b"x"):
            server.post(body)
        server.post(b"x", "text/plain")
        counted = numbers(server)
    assert counted['serving_requests_total{status="200"}'] == 2
    assert counted['serving_requests_total{status="400"}'] == 2
    assert counted['serving_errors_total{kind="invalid"}'] == 2
    assert counted['serving_errors_total{kind="too large"}'] == 1
    assert counted['serving_errors_total{kind="type"}'] == 1
    assert counted["serving_rows_total"] == 3
    assert counted["serving_request_seconds_count"] == 6
    assert counted['serving_request_seconds_bucket{le="+Inf"}'] == 6
    assert counted[f'serving_model_version{{name="{NAME}"}}'] == 1
    assert counted["serving_alias_age_seconds"] == 0


class TestFollowingAnAlias:
    def test_a_move_of_the_alias_changes_answers_description_and_metrics(self, following: Running) -> None:
        before = following.post(records(ROW))
        point("production", "2")
        following.service.followed.check()
        after = following.post(records(ROW))
        assert before.headers["X-Model-Uri"] == PINNED
        assert after.headers["X-Model-Uri"] == f"models:/{NAME}/2"
        assert before.json() != after.json()
        assert following.get("/openapi.json").json()["info"]["version"] == "2"
        assert numbers(following)[f'serving_model_version{{name="{NAME}"}}'] == 2
        assert following.get("/health").json()["status"] == "ok"

    def test_a_thread_asks_for_it(self, registry: Path) -> None:
        point("production", "1")
        with running(FOLLOWED, poll_seconds=0.1) as server:
            point("production", "3")
            assert until(lambda: server.get("/ping").headers["X-Model-Uri"] == f"models:/{NAME}/3")

    def test_a_pinned_version_stays(self, registry: Path) -> None:
        with running(PINNED, poll_seconds=0.1) as server:
            point("production", "2")
            time.sleep(0.5)
            assert server.post(records(ROW)).headers["X-Model-Uri"] == PINNED

    def test_a_version_that_does_not_load_leaves_the_old_one_and_is_named(
        self, following: Running, registry: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        broken = register(weaker_model(max_depth=1))
        booster = next(registry.glob(f"**/{model_folder(broken)}/**/booster.ubj"))
        booster.write_bytes(booster.read_bytes()[:-10])
        point("production", broken)
        for _ in range(3):
            following.service.followed.check()
        assert following.post(records(ROW)).headers["X-Model-Uri"] == PINNED
        health = following.get("/health")
        assert health.status_code == 200
        assert health.json()["status"] == "degraded"
        assert f"models:/{NAME}/{broken} is not served: ModelDamaged" in health.json()["problem"]
        assert capfd.readouterr().err.count("is not served") == 1
        point("production", "2")
        following.service.followed.check()
        assert following.get("/health").json()["status"] == "ok"
        assert following.post(records(ROW)).headers["X-Model-Uri"] == f"models:/{NAME}/2"

    def test_a_version_that_does_not_predict_its_example_is_not_served(
        self, following: Running, registry: Path
    ) -> None:
        odd = register(flowers_model())
        example = next(registry.glob(f"**/{model_folder(odd)}/**/serving_input_example.json"))
        example.write_text(json.dumps(split([["x", 5, True, "red"]])))
        point("production", odd)
        following.service.followed.check()
        assert following.post(records(ROW)).headers["X-Model-Uri"] == PINNED
        assert "its input example is not predicted" in following.get("/health").json()["problem"]

    def test_an_alias_that_is_gone_leaves_the_old_one(self, following: Running) -> None:
        mlflow.MlflowClient().delete_registered_model_alias(NAME, "production")
        following.service.followed.check()
        assert following.post(records(ROW)).status_code == 200
        assert following.get("/health").json()["problem"] == f"{FOLLOWED} names nothing now"

    def test_a_registry_that_is_away_leaves_the_old_one_until_it_is_back(
        self, following: Running, registry: Path
    ) -> None:
        here = mlflow.get_tracking_uri()
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            away = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        try:
            mlflow.set_tracking_uri(away)
            following.service.followed.check()
        finally:
            mlflow.set_tracking_uri(here)
        assert following.post(records(ROW)).headers["X-Model-Uri"] == PINNED
        assert "the registry does not say what" in following.get("/health").json()["problem"]
        following.service.followed.check()
        assert following.get("/health").json()["problem"] is None

    def test_an_alias_that_was_not_read_for_long_is_said(
        self, following: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WORKFLOW_ANSWER_SECONDS", "1")
        assert until(lambda: following.get("/health").json()["status"] == "degraded")
        assert f"{FOLLOWED} could not be read for" in following.get("/health").json()["problem"]

    def test_a_model_that_is_not_there_is_no_server(self, registry: Path) -> None:
        with pytest.raises(ModelNotFound, match="@nowhere does not exist"), running(f"models:/{NAME}@nowhere"):
            pass


@pytest.mark.parametrize("body", [records(ROW, {**ROW, "color": None}), records({**ROW, "petals": "x"})])
def test_a_model_whose_code_takes_frames_alone_as_that_of_earlier_releases_did_is_served(
    server: Running, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = server.post(body)
    model = server.service.followed.now
    earlier = SimpleNamespace(predict=model.scorer.predict)
    monkeypatch.setattr(server.service.followed, "now", type(model)(**{**vars_of(model), "scorer": earlier}))
    response = server.post(body)
    assert (response.status_code, response.json()) == (expected.status_code, expected.json())


def model_folder(version: str) -> str:
    source = str(mlflow.MlflowClient().get_model_version(NAME, version).source)
    return source.rpartition("/")[2]


def test_an_address_that_cannot_be_had_is_said() -> None:
    with http_server.bound("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(AddressUnusable, match="Address already in use"):
            http_server.bound("127.0.0.1", taken.getsockname()[1]).__enter__()
    with pytest.raises(AddressUnusable, match="cannot listen at no.such.host.invalid"):
        http_server.bound("no.such.host.invalid", 0).__enter__()


def test_the_later_of_two_servers_that_start_at_once_at_one_address_says_so() -> None:
    """Both may bind it as long as neither listens."""
    with http_server.bound("127.0.0.1", 0) as first, http_server.bound(*first.getsockname()) as second:
        first.listen()
        config = http_server.settings(FastAPI(), grace_seconds=1)
        with pytest.raises(AddressUnusable, match="Address already in use"):
            http_server.HttpServer(config).run([second])


class Log:
    """A request log in memory."""

    def __init__(self) -> None:
        self.tables: list[pa.Table] = []
        self.dropped: list[tuple[int, str]] = []
        self.is_closed = False

    def drop(self, rows: int, reason: str) -> None:
        self.dropped.append((rows, reason))

    def add(self, rows: pa.Table) -> None:
        self.tables.append(rows)

    def close(self) -> None:
        self.is_closed = True

    def state(self) -> dict[str, Any]:
        return {"status": "ok", "table": "/lake/flowers_requests", "tables": len(self.tables)}


def register_renamed(column: str, name: str) -> str:
    """The version of a model one of whose features has another name."""
    renamed = {column: name}
    columns = {renamed.get(name, name): keys for name, keys in FLOWERS["columns"].items()}
    settings = flowers_config(columns=columns)
    model = fit(settings, split_rows(flowers().rename(columns=renamed), split_settings(settings)))
    return register(model, example=flowers(3)[FEATURES].rename(columns=renamed))


class TestTheRequestLog:
    def test_it_is_given_each_scored_row_with_what_was_answered(self, registry: Path) -> None:
        log = Log()
        bare = {**dict.fromkeys(FEATURES), "extra": 1}
        with running(PINNED, open_log=lambda: log) as server:
            answered = server.post(records(ROW, {**bare}), **{"X-Request-Id": "order-17"}).json()["predictions"]
            csv = server.post(pd.DataFrame([ROW]).to_csv(index=False), CSV).json()["predictions"]
            server.post(b"x")
            assert server.get("/health").json()["log"] == log.state() == {**log.state(), "tables": 2}
        assert log.is_closed
        first, second = log.tables
        assert first.schema == pa.schema(
            [
                *[("petal_length", pa.float64()), ("petals", pa.int64()), ("wild", pa.bool_()), ("color", pa.string())],
                *[("prediction", pa.string()), ("probability", pa.float64())],
                *[("probabilities", pa.map_(pa.string(), pa.float64())), ("model_uri", pa.string())],
                *[("request_id", pa.string()), ("scored_at", pa.timestamp("us", "UTC")), ("row", pa.int64())],
            ]
        )
        assert first.select(FEATURES).to_pylist() == [ROW, dict.fromkeys(FEATURES)]
        assert first["request_id"].to_pylist() == ["order-17"] * 2
        assert first["row"].to_pylist() == [0, 1]
        assert first["model_uri"].to_pylist() == [PINNED] * 2
        assert abs(first["scored_at"][0].as_py() - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
        for table, answers in ((first, answered), (second, csv)):
            logged = table.select(["prediction", "probability", "probabilities"]).to_pylist()
            assert [{**row, "probabilities": dict(row["probabilities"])} for row in logged] == answers
        assert second.select(FEATURES).to_pylist() == [ROW]

    @pytest.mark.parametrize(("column", "name"), [("petals", "row"), ("petals", "Row"), ("color", "Request_ID")])
    def test_a_model_whose_feature_has_the_name_of_its_column_is_refused(
        self, registry: Path, column: str, name: str
    ) -> None:
        version = register_renamed(column, name)
        with (
            pytest.raises(TableUnfit, match=f"log: has a column '{name.lower()}' of its own, and models:/.* a feature"),
            running(f"models:/{NAME}/{version}", open_log=Log),
        ):
            pass
        with running(f"models:/{NAME}/{version}") as server:  # which logs no requests
            assert server.get("/ping").status_code == 200

    def test_a_model_whose_feature_has_the_name_of_its_column_takes_no_other_ones_place(self, registry: Path) -> None:
        point("production", "1")
        log = Log()
        with running(FOLLOWED, open_log=lambda: log) as server:
            version = register_renamed("petal_length", "Row")
            point("production", version)
            server.service.followed.check()
            assert server.post(records(ROW)).headers["X-Model-Uri"] == PINNED
            problem = server.get("/health").json()["problem"]
            assert f"models:/{NAME}/{version} is not served: TableUnfit: the request log: has a column 'row'" in problem
            point("production", "2")
            server.service.followed.check()
            assert server.post(records(ROW)).headers["X-Model-Uri"] == f"models:/{NAME}/2"
        assert [table["row"].to_pylist() for table in log.tables] == [[0], [0]]

    def test_a_text_that_no_file_can_hold_loses_no_row(self, registry: Path) -> None:
        log = Log()
        with running(PINNED, open_log=lambda: log) as server:
            assert server.post(records(ROW, {**ROW, "color": "red\ud800"})).status_code == 200
        (logged,) = log.tables
        assert logged["color"].to_pylist() == [ROW["color"], "red\ufffd"]

    def test_a_log_that_fails_stops_no_answer_and_its_rows_are_counted(self, registry: Path) -> None:
        class Full(Log):
            def add(self, rows: pa.Table) -> None:
                raise ValueError("no more")

        log = Full()
        with running(PINNED, open_log=lambda: log) as server:
            assert server.post(records(ROW)).status_code == 200
        assert log.dropped == [(1, "ValueError('no more')")]
