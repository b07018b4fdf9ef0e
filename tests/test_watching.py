"""Which rows are looked at, in which windows, and what is said of them: on real tables, in this process."""

import dataclasses
import datetime as dt
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from deltalake import CommitProperties, write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from small import FLOWERS, QUICK, flowers, flowers_config, flowers_model

from steps.core import config
from steps.core.config_monitor import Duration, Monitor, length_of
from steps.core.errors import ConfigInvalid
from steps.core.models import split, training
from steps.core.models.row_sample import MOST_ROWS, RowSample
from steps.core.models.training_rows import TrainingRows, split_settings_of
from steps.core.monitoring import current, quality_sections, reference, report, watching
from steps.core.monitoring.errors import NothingToWatch, TooManyWindows
from steps.core.monitoring.findings import Finding
from steps.core.monitoring.reference import Reference, Watched
from steps.core.monitoring.watching import Watch
from steps.core.monitoring.windows import OLDER, Windows
from steps.core.tables import snapshot
from steps.core.tables.location import TableUri

NOW = dt.datetime.now(dt.UTC)  # of each test: see the_same_day()
FEATURES = ("petal_length", "petals", "wild", "color")
DAY = dt.timedelta(days=1)


def table_of(rows: pd.DataFrame, **columns: Any) -> pa.Table:
    stored = pa.Table.from_pandas(rows, preserve_index=False)
    for name, values in columns.items():
        stored = stored.append_column(name, values)
    return stored


def times(*moments: dt.datetime | None) -> pa.Array:
    return pa.array(moments, pa.timestamp("us", "UTC"))


def watched(table_uri: str, rows: pd.DataFrame | None = None) -> Watched:
    """The flowers' model, as if it had been trained on `rows` of that table."""
    sample = table_of(flowers(2_000) if rows is None else rows)
    model = flowers_model()
    known = Reference(
        table_uri=table_uri,
        table_rows=len(sample),
        rows=len(sample),
        columns={column.name: str(column.type) for column in sample.schema},
        features=reference.features_of(sample, model.schema.features, others=table_of(flowers(600, seed=9))),
    )
    return Watched(uri="models:/flowers_model/1", schema=model.schema, reference=known)


class Lake:
    """A table of flowers and its predictions in a folder."""

    def __init__(self, folder: Path) -> None:
        self.table, self.predictions = f"{folder}/flowers", f"{folder}/flowers_predictions"
        write_deltalake(self.table, table_of(flowers(2_000)))
        self.watched = watched(f"{self.table}@v0")

    def score(self, rows: pd.DataFrame, *moments: dt.datetime | None, **columns: Any) -> None:
        """Add predictions of these rows; the moments are when, in turn."""
        scored_at = times(*(moments[i % len(moments)] for i in range(len(rows))))
        columns = {"scored_at": scored_at, "deleted_at": times(*[None] * len(rows)), **columns}
        write_deltalake(self.predictions, table_of(rows, **columns), mode="append")

    def add(self, rows: pd.DataFrame, mode: Any = "append") -> None:
        write_deltalake(self.table, table_of(rows), mode=mode, schema_mode="overwrite" if mode == "overwrite" else None)

    def watch(self, path: str = "", **settings: Any) -> Watch:
        opened = snapshot.open(TableUri(path or self.predictions))
        monitor = Monitor(**settings)
        found = watching.watch(self.watched, current.rows_of(opened, self.watched, monitor), monitor)
        json.loads(report.as_json(found, facts={}), parse_constant=pytest.fail)
        assert "nan" not in re.findall(r"\bnan\b", report.render(found, facts={}).lower())
        return found


@pytest.fixture(autouse=True)
def the_same_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are written on the day that NOW is on, also where the tests were collected before midnight."""
    monkeypatch.setitem(globals(), "NOW", dt.datetime.now(dt.UTC))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def levels(watch: Watch) -> list[str]:
    return [window.level for window in watch.windows]


def rows(watch: Watch) -> list[int]:
    return [window.summary.rows for window in watch.windows]


def said(watch: Watch, subject: str) -> Finding:
    return next(one for one in (*watch.findings, *watch.windows[-1].findings) if one.subject == subject)


class TestWhichRows:
    def test_of_predictions_those_of_rows_that_the_table_has(self, lake: Lake) -> None:
        lake.score(flowers(300, seed=2), NOW - DAY)
        gone = flowers(200, seed=3).assign(petal_length=99.0)
        lake.score(gone, NOW - DAY, deleted_at=times(*[NOW] * 200))
        assert rows(lake.watch()) == [300]
        assert lake.watch().verdict == "ok"

    def test_of_requests_those_that_this_version_has_answered(self, lake: Lake) -> None:
        moved = flowers(300, seed=2).assign(petal_length=99.0)
        for version, asked in {1: flowers(300, seed=2), 2: moved}.items():
            uri = f"models:/flowers_model/{version}"
            lake.score(asked, NOW - DAY, request_id=pa.array(["a"] * 300), model_uri=pa.array([uri] * 300))
        watch = lake.watch()
        assert (rows(watch), watch.counted.of_others, watch.verdict) == ([300], 300, "ok")

    def test_of_a_table_those_that_came_since_the_model_was_trained(self, lake: Lake) -> None:
        lake.add(flowers(300, seed=2).assign(petals=50))
        watch = lake.watch(lake.table)
        assert rows(watch) == [300]
        assert watch.verdict == "alert"
        assert "came since version 0" in watch.current.which

    def test_of_a_table_without_new_rows_none(self, lake: Lake) -> None:
        watch = lake.watch(lake.table)
        assert watch.verdict == "too little data"
        assert watch.reasons() == ["rows: there is none that came since version 0, which the model was trained on"]

    def test_of_a_table_that_was_written_anew_all(self, lake: Lake) -> None:
        lake.add(flowers(500, seed=2), mode="overwrite")
        watch = lake.watch(lake.table)
        assert rows(watch) == [500]
        assert watch.current.which == "of this version"

    def test_of_a_table_that_was_deleted_and_made_anew_all(self, lake: Lake) -> None:
        """Its versions have the URIs of those that are gone."""
        identity = snapshot.open(TableUri(lake.table, 0)).identity
        known = dataclasses.replace(lake.watched.reference, read=1_000, rejected=10)
        lake.watched = dataclasses.replace(lake.watched, table_identity=identity, reference=known)
        lake.add(flowers(300, seed=2))
        assert rows(lake.watch(lake.table)) == [300]
        lake.watched = dataclasses.replace(lake.watched)  # which looks anew
        shutil.rmtree(lake.table)
        lake.add(flowers(400, seed=3))
        TestRejects().ingest(lake, read=500, rejected=300)
        watch = lake.watch(lake.table)
        assert (rows(watch), watch.current.which) == ([800], "of this version")
        assert watch.findings == []

    def test_the_files_of_the_training_version_need_not_be_there(self, lake: Lake) -> None:
        lake.add(flowers(400, seed=2), mode="overwrite")
        for file in Path(lake.table).glob("*.parquet"):
            if file.name not in snapshot.open(TableUri(lake.table)).data_files:
                file.unlink()
        assert lake.watch(lake.table).verdict == "ok"

    def test_none_yet_is_said_with_what_makes_some(self, tmp_path: Path) -> None:
        with pytest.raises(NothingToWatch, match=r"(?s)no predictions yet: .*e infer"):
            current.open_table("predictions", lake_root=str(tmp_path), name="flowers")
        with pytest.raises(NothingToWatch, match=r"(?s)no requests yet: .*-P log=true"):
            current.open_table("requests", lake_root=str(tmp_path), name="flowers")

    def test_of_a_request_log_those_of_its_times_and_no_column_of_its_own_is_new(self, lake: Lake) -> None:
        asked = flowers(600, seed=2).drop(columns="species")
        own = {
            "request_id": pa.array(["r"] * 600),
            "row": pa.array(range(600)),
            "model_uri": pa.array([lake.watched.uri] * 600),
        }
        path = lake.table + "_requests"
        write_deltalake(path, table_of(asked, scored_at=times(*[NOW - 9 * DAY, NOW - DAY] * 300), **own))
        lake_root, _, name = lake.table.rpartition("/")
        assert current.open_table("requests", lake_root=lake_root, name=name).path == path
        watch = lake.watch(path, since="7d")
        assert (rows(watch), watch.counted.older) == ([300], 300)
        assert watch.findings == []
        assert watch.verdict == "ok"

    def test_a_table_has_no_times_to_part_it_by(self, lake: Lake) -> None:
        with pytest.raises(NothingToWatch, match="window=1d for .* whose rows have no times"):
            lake.watch(lake.table, window="1d")


class TestWindows:
    def test_each_row_is_in_the_window_of_its_time(self, lake: Lake) -> None:
        lake.score(flowers(900, seed=2), NOW - 3 * DAY, NOW - 2 * DAY, NOW - DAY)
        watch = lake.watch(window="1d")
        assert rows(watch)[:3] == [300, 300, 300]
        assert sum(rows(watch)) == 900
        assert [window.window.begin.hour for window in watch.windows if window.window.begin] == [0] * 4

    def test_one_without_rows_says_so_and_is_no_alarm(self, lake: Lake) -> None:
        lake.score(flowers(800, seed=2), NOW - 3 * DAY, NOW - DAY)
        watch = lake.watch(window="1d")
        assert levels(watch)[1] == "too little data"
        assert watch.windows[1].told() == "there is none in this window"
        assert watch.verdict == "ok"

    def test_older_rows_are_left_out_and_counted(self, lake: Lake) -> None:
        lake.score(flowers(500, seed=2), NOW - 30 * DAY)
        lake.score(flowers(300, seed=3), NOW - DAY)
        watch = lake.watch(since="7d")
        assert rows(watch) == [300]
        assert watch.counted.older == 500

    def test_only_the_day_on_which_a_feature_moved_is_told(self, lake: Lake) -> None:
        for day, length in ((3, 0.0), (2, 4.0), (1, 0.0)):
            moved = flowers(400, seed=day)
            lake.score(moved.assign(petal_length=moved["petal_length"] + length), NOW - day * DAY)
        watch = lake.watch(window="1d")
        assert levels(watch)[:3] == ["ok", "alert", "ok"]
        assert watch.windows[1].moved() == ["petal_length"]
        assert watch.verdict == "alert"
        assert re.fullmatch(r"petal_length \(.* to .*\): PSI .* p .*", watch.reasons()[0])

    def test_after_alerts_warnings_are_told_and_marked_as_such(self, lake: Lake) -> None:
        lake.score(flowers(400, seed=2), NOW - DAY)
        [window] = lake.watch().windows
        alerts = [Finding(level="alert", subject=f"moved_{i}", reason="PSI 0.5") for i in range(7)]
        warnings = [Finding(level="warn", subject=f"near_{i}", reason="PSI 0.1") for i in range(6)]
        found = [dataclasses.replace(window, findings=[*warnings, *alerts])]
        watch = dataclasses.replace(lake.watch(), windows=found)
        assert watch.reasons() == [
            *(f"moved_{i}: PSI 0.5" for i in range(5)),
            "and 2 more",
            *(f"near_{i} (warn): PSI 0.1" for i in range(5)),
            "and 1 more (warn)",
        ]
        assert watch.verdict == "alert"
        several = dataclasses.replace(watch, windows=found * 2)
        assert f"near_0 (warn, {window.window.label}): PSI 0.1" in several.reasons()

    def test_the_same_version_has_the_same_windows_whenever_it_is_looked_at(self, lake: Lake) -> None:
        lake.score(flowers(400, seed=2), NOW - 2 * DAY, NOW - DAY)
        first = lake.watch(since="3d", window="12h")
        lake.score(flowers(100, seed=3), NOW)
        pinned = snapshot.open(TableUri(lake.predictions, 0))
        settings = Monitor(since="3d", window="12h")
        again = watching.watch(lake.watched, current.rows_of(pinned, lake.watched, settings), settings)
        assert report.as_json(again, facts={}) == report.as_json(first, facts={})

    def test_rows_of_the_future_are_in_the_last_one_and_said(self, lake: Lake) -> None:
        lake.score(flowers(300, seed=2), NOW - DAY)
        lake.score(flowers(3, seed=3), NOW + 400 * DAY)
        watch = lake.watch(window="1d")
        assert rows(watch) == [300, 3]
        assert said(watch, "scored_at").reason.startswith(
            "3 rows say that they were scored after their table was written"
        )
        assert watch.verdict == "warn"

    def test_a_clock_that_goes_back_moves_no_row_into_another_window(self, lake: Lake) -> None:
        lake.score(flowers(300, seed=2), NOW - DAY)
        lake.score(flowers(200, seed=3), NOW - 2 * DAY)  # written later, of an earlier time
        assert rows(lake.watch(window="1d"))[:2] == [200, 300]

    def test_rows_without_a_time_are_in_the_last_one_and_said(self, lake: Lake) -> None:
        lake.score(flowers(300, seed=2), NOW - DAY, None)
        watch = lake.watch(window="1d")
        assert rows(watch) == [150, 150]
        assert "150 rows do not say when" in said(watch, "scored_at").reason

    def test_too_many_are_refused_with_what_helps(self, lake: Lake) -> None:
        lake.score(flowers(300, seed=2), NOW - 300 * DAY, NOW)
        with pytest.raises(TooManyWindows, match=r"(?s)from the first row .*windows of this length.*with -P window="):
            lake.watch(window="1h")

    def test_before_the_first_row_there_is_none(self, lake: Lake) -> None:
        lake.score(flowers(300, seed=2), NOW - DAY)
        watch = lake.watch(since="30d", window="1h")
        assert (rows(watch)[0], sum(rows(watch))) == (300, 300)
        assert len(watch.windows) in (25, 26)  # the table may be written in the next hour

    def test_windows_of_rows_that_went_since_are_kept_for_their_labels(self, lake: Lake) -> None:
        """As of a table that is replaced each day, whose labels come days later."""
        lake.score(flowers(200, seed=3), NOW - 5 * DAY, deleted_at=times(*[NOW] * 200))
        lake.score(flowers(300, seed=2), NOW)
        assert len(lake.watch(since="30d", window="1d").windows) in (6, 7)
        assert len(lake.watch(window="1d").windows) in (1, 2)  # at midnight

    def test_where_none_has_rows_it_is_said_of_all_that_were_asked_for(self, lake: Lake) -> None:
        lake.score(flowers(300, seed=2), NOW - 60 * DAY)
        watch = lake.watch(since="30d", window="1h")
        assert watch.reasons() == ["rows: there is none scored in the 30d before it was written"]

    @given(
        st.lists(st.integers(-(10**15), 10**16), min_size=1), st.sampled_from([None, "1h", "1d", "2w"]), st.booleans()
    )
    @QUICK
    def test_every_row_is_in_one_window_or_older(self, moments: list[int], window: str | None, limited: bool) -> None:
        windows = Windows.of("at", written_at=NOW, since="7d" if limited else None, window=window)
        numbers, ahead = windows.numbers(
            pa.chunked_array([pa.array(moments, pa.int64()).cast(pa.timestamp("us", "UTC"))])
        )
        end = int(NOW.timestamp() * 10**6)
        assert ahead == sum(moment > end + 60 * 10**6 for moment in moments)
        for number, moment in zip(numbers.tolist(), moments, strict=True):
            if limited and number == OLDER:
                assert moment < end - 7 * 86_400 * 10**6
            elif window:
                one = windows.window(number)
                assert one.begin is not None
                assert one.begin.timestamp() * 10**6 <= min(moment, end) < one.end.timestamp() * 10**6

    @pytest.mark.parametrize(("text", "hours"), [("90m", 1.5), ("12h", 12), ("7d", 168), ("2w", 336)])
    def test_a_duration_is_a_number_and_a_unit(self, text: Duration, hours: float) -> None:
        assert length_of(text) == dt.timedelta(hours=hours)


class TestFewRows:
    def test_features_of_which_nothing_can_be_said_are_counted(self, lake: Lake) -> None:
        lake.score(flowers(30, seed=2), NOW)
        watch = lake.watch()
        assert watch.verdict == "ok"
        assert watch.unjudged() == ["petal_length"]  # in ten bins; the others have six at the most
        assert watch.reasons()[0].endswith("; too few rows to say of 1 features")

    def test_of_a_handful_nothing_is_said(self, lake: Lake) -> None:
        lake.score(flowers(6, seed=2).assign(petal_length=99.0), NOW)
        assert lake.watch().verdict == "too little data"


class TestRejects:
    def ingest(self, lake: Lake, *, read: int, rejected: int) -> None:
        metadata = json.dumps({"rows_read": str(read), "rows_rejected": str(rejected)})
        properties = CommitProperties(custom_metadata={"userMetadata": metadata})
        write_deltalake(lake.table, table_of(flowers(400, seed=read)), mode="append", commit_properties=properties)

    @pytest.mark.parametrize(("rejected", "level"), [(4, "ok"), (50, "warn"), (300, "alert")])
    def test_more_of_them_than_when_the_model_was_trained_are_told(self, lake: Lake, rejected: int, level: str) -> None:
        known = dataclasses.replace(lake.watched.reference, read=1_000, rejected=10)
        lake.watched = dataclasses.replace(lake.watched, reference=known)
        self.ingest(lake, read=500, rejected=rejected)
        finding = said(lake.watch(lake.table), "rejects")
        assert finding.level == level
        assert finding.reason.startswith(
            f"rows that broke the contract 1.0% -> {rejected / 500:.1%} ({rejected} of 500)"
        )

    def test_where_no_commit_tells_of_them_nothing_is_said(self, lake: Lake) -> None:
        lake.add(flowers(400, seed=2))
        assert lake.watch(lake.table).findings == []


class TestReference:
    """As train keeps it."""

    def reference(self, folder: Path, rows: pd.DataFrame, **changes: Any) -> Reference:
        write_deltalake(f"{folder}/t", table_of(rows))
        settings = flowers_config(**changes)
        table = snapshot.open(TableUri(f"{folder}/t"))
        stored = TrainingRows(table=table, settings=settings, split_settings=split_settings_of(table, settings))
        survey = stored.survey()
        schema = training.learn_schema(
            survey.parts, settings, split_settings=stored.split_settings, table_uri=str(table), seen=survey.seen
        )
        return reference.of_sample(survey.sample, schema, settings, others=survey.others, table=table)

    def test_has_the_columns_and_features_of_the_table_and_the_rows_of_its_train_part(self, tmp_path: Path) -> None:
        known = self.reference(tmp_path, flowers(900))
        trained = int((split.parts(flowers(900), split.settings_of(flowers_config())) == "train").sum())
        assert (known.table_uri, known.table_rows, known.rows) == (f"{tmp_path}/t@v0", 900, trained)
        assert list(known.columns) == list(flowers(1).columns)
        assert [one.bins.name for one in known.features] == list(FEATURES)
        assert {one.counts.rows for one in known.features} == {trained}
        assert known.grouping is None

    def test_has_no_rows_of_a_later_time_and_none_without_a_label(self, tmp_path: Path) -> None:
        """The lengths are the days: a tenth and two tenths of those with a label are the other parts."""
        rows = flowers(900)
        rows["day"] = [dt.date(2024, 1, 1) + dt.timedelta(days=number) for number in range(900)]
        rows = rows.assign(petal_length=np.arange(900.0), species=rows["species"].where(rows.index % 2 == 0, None))
        columns = {**FLOWERS["columns"], "day": {"type": "date", "feature": False}}
        known = self.reference(tmp_path, rows, columns=columns, split={"time": "day"})
        trained = np.arange(0, 900, 2)[:315]
        assert known.rows == len(trained)
        deciles = np.quantile(trained, np.arange(1, 10) / 10, method="inverted_cdf")
        assert known.features[0].bins.edges == tuple(deciles)

    def test_counts_as_unseen_what_is_new_to_the_train_part_alone(self, tmp_path: Path) -> None:
        rows = flowers(900)
        rows["color"] = [f"c{number % 450}" for number in range(900)]  # each twice
        color = self.reference(tmp_path, rows).features[-1]
        assert 200 < color.new < 400  # outside the train part
        assert 0.1 < color.unseen / color.new < 0.6

    @pytest.mark.parametrize(("parted", "by"), [({"group": "owner"}, "value"), ({"time": "day"}, "day")])
    def test_knows_which_rows_belong_together(self, tmp_path: Path, parted: dict[str, str], by: str) -> None:
        rows, owner = flowers(900), np.arange(900) // 30
        rows["petal_length"] = owner % 7 + rows["petal_length"] / 100
        rows["owner"] = [f"o{number}" for number in owner]
        rows["day"] = [dt.date(2024, 1, 1) + dt.timedelta(days=int(number)) for number in owner]
        kinds = {"owner": {"type": "string", "feature": False}, "day": {"type": "date", "feature": False}}
        known = self.reference(tmp_path, rows, columns={**FLOWERS["columns"], **kinds}, split=parted)
        assert known.grouping is not None
        assert known.grouping.by == by
        assert known.rows_together == pytest.approx(30)
        correlations = {one.bins.name: one.correlation for one in known.features}
        assert correlations["petal_length"] > 0.8
        assert correlations["wild"] < 0.1

    def test_of_a_large_table_a_sample_is_kept_the_same_each_time(self) -> None:
        rows = pa.table({"x": np.arange(100_000)})

        def sample() -> list[int]:
            sampled = RowSample(rows.schema)
            for begin in range(0, 100_000, 8_192):
                sampled.add(rows.slice(begin, 8_192))
            found: list[int] = sampled.rows()["x"].to_pylist()
            return found

        assert sample() == sample() == sorted(set(sample()))
        assert len(sample()) == MOST_ROWS
        assert np.mean(sample()) == pytest.approx(50_000, rel=0.02)


class TestConfig:
    @pytest.mark.parametrize(
        ("monitor", "mistake"),
        [
            ({"drift": {"warn": 0.3, "alert": 0.2}}, "monitor.drift: warn 0.3 is above alert 0.2"),
            ({"since": "a week"}, "monitor.since: 'a week' given; a duration is a whole number and m, h, d or w"),
            ({"windows": "1d"}, "monitor.windows is not a key (did you mean 'window'?)"),
            ({"significance": 5}, "monitor.significance: 5 given, input should be less than 1"),
        ],
    )
    def test_a_mistake_is_told_with_its_key(self, monitor: dict[str, Any], mistake: str) -> None:
        with pytest.raises(ConfigInvalid, match=re.escape(mistake)):
            config.parse(yaml.safe_dump({**FLOWERS, "monitor": monitor}), path="flowers.yaml")

    def test_parameters_replace_the_windows_of_the_config(self) -> None:
        settings = flowers_config(monitor={"since": "7d", "window": "1d"})
        assert settings.with_windows(since=None, window="12h").monitor == Monitor(since="7d", window="12h")


class TestColumns:
    def test_one_that_is_gone_is_an_alert(self, lake: Lake) -> None:
        lake.score(flowers(300, seed=2).drop(columns="petals"), NOW)
        watch = lake.watch()
        assert watch.verdict == "alert"
        assert watch.reasons() == ["petals: the column is gone, and the model takes no rows without it (it was long)"]

    def test_one_of_another_type_is_an_alert(self, lake: Lake) -> None:
        lake.score(flowers(300, seed=2).assign(petal_length="long"), NOW)
        assert "petal_length: the column has the type string now; the model takes double" in lake.watch().reasons()[0]

    def test_whole_numbers_for_doubles_are_the_same_numbers(self, lake: Lake) -> None:
        lake.score(flowers(600, seed=2).assign(petals=lambda rows: rows["petals"].astype(float)), NOW)
        assert lake.watch().verdict == "ok"

    def test_one_that_came_is_told_and_no_alarm(self, lake: Lake) -> None:
        lake.score(flowers(300, seed=2).assign(height=1.0), NOW, model_uri=pa.array(["m"] * 300))
        watch = lake.watch()
        assert (watch.findings, watch.verdict) == ([], "ok")
        assert report.facts_of(watch)["columns that are new"] == "height (double); the model does not see them"

    def test_one_that_came_says_nothing_of_a_handful_of_rows(self, lake: Lake) -> None:
        lake.score(flowers(6, seed=2).assign(height=1.0), NOW)
        assert lake.watch().verdict == "too little data"

    def test_a_report_names_no_markup_of_a_users(self, lake: Lake) -> None:
        lake.score(flowers(300, seed=2).assign(color="<script>x</script>"), NOW)
        text = report.render(lake.watch(), facts={"a": "<b>"})
        assert "<script>" not in text
        assert "&lt;b&gt;" in text


class TestReport:
    def test_says_the_verdict_first_and_shows_the_worst_feature_before_the_others(self, lake: Lake) -> None:
        moved = flowers(400, seed=2)
        lake.score(moved.assign(petal_length=moved["petal_length"] + 4), NOW)
        text = report.render(lake.watch(), facts={})
        headings = re.findall(r"<h3>(\w+) <span class=\"outcome (\w+)\"", text)
        assert headings[0] == ("petal_length", "alert")
        assert {name for name, _ in headings} == set(FEATURES)
        assert text.index("Verdict: ") < text.index("<h2>")
        assert text.count("<svg") == len(FEATURES)

    @pytest.mark.parametrize(("metric", "worst"), [("mae", 3), ("r2", 1)])
    def test_the_worst_window_of_quality_is_the_one_with_the_largest_error(
        self, lake: Lake, metric: str, worst: int
    ) -> None:
        lake.score(flowers(400, seed=2), NOW)
        watch = lake.watch()
        scores = [{metric: value, f"{metric}_low": value, f"{metric}_high": value} for value in (1.0, 3.0)]
        windows = [
            dataclasses.replace(
                watch.windows[0],
                quality={"live quality": [Finding(level="ok", subject="quality", reason="", numbers=one)]},
            )
            for one in scores
        ]
        [section] = quality_sections.sections(dataclasses.replace(watch, windows=windows), metric=metric)
        assert f"{metric} of 2 windows, the worst {worst}.0000" in section.pictures[0]

    def test_says_which_false_alarms_are_how_rare(self, lake: Lake) -> None:
        lake.score(flowers(400, seed=2), NOW)
        assert report.facts_of(lake.watch(significance=0.02))["false alarms"] == (
            "where nothing has moved, in at most 2.0% of such comparisons of features, of predictions and of rejects "
            "each, and in 5.0% of those of quality by labels"
        )

    def test_is_one_file_that_asks_for_no_other(self, lake: Lake) -> None:
        lake.score(flowers(400, seed=2), NOW)
        text = report.render(lake.watch(), facts={})
        assert not re.findall(r"(?:src|href)=\"(?!data:)|url\(|@import", text)
