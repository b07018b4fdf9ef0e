"""Which engine boosts, and that it does not matter for the model: from memory, from bins on disk, from many batches."""

import shutil
import signal
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost
from deltalake import write_deltalake
from small import FLOWERS, flowers, flowers_config

from steps.core import config, config_model, parameters
from steps.core.errors import ConfigInvalid, MatrixTooLarge, ParametersInvalid, SearchTooLarge, TableUnfit
from steps.core.models import engines, features, local_training, predictions, scorer, split, training
from steps.core.models.boosting import Block, Boosted, Recipe
from steps.core.models.training_rows import Survey, TrainingRows, split_settings_of
from steps.core.process import memory
from steps.core.process.interruption import Interrupted
from steps.core.tables import location, snapshot
from steps.train import TrainParameters

GIB = 2**30


def table_of(frames: list[pd.DataFrame], folder: Path) -> snapshot.Snapshot:
    """A table of a commit, and so a file, for each frame."""
    for frame in frames:
        write_deltalake(str(folder), pa.Table.from_pandas(frame, preserve_index=False), mode="append")
    return snapshot.open(location.parse_table(str(folder)))


def rows_of(table: snapshot.Snapshot, settings: config.Config | None = None) -> TrainingRows:
    settings = settings or flowers_config()
    return TrainingRows(table=table, settings=settings, split_settings=split_settings_of(table, settings))


def surveyed(rows: TrainingRows) -> Survey:
    return rows.survey()


def schema_of(rows: TrainingRows, survey: Survey) -> scorer.Schema:
    return training.learn_schema(
        survey.parts,
        rows.settings,
        split_settings=rows.split_settings,
        table_uri=str(rows.table),
        seen=survey.seen,
        labelled=lambda: rows.first(1000),
    )


@pytest.fixture(scope="module")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> TrainingRows:
    """Rows in many files, some of them without a label, and in some of them a column without a value."""
    frame = flowers(3000)
    frame.loc[::9, "species"] = None
    frames = [frame[begin : begin + 250] for begin in range(0, 3000, 250)]
    frames[3] = frames[3].assign(petal_length=np.nan, color=pd.Series([None] * 250, dtype=object))
    frames[3] = frames[3].astype({"color": "string"})
    return rows_of(table_of(frames, tmp_path_factory.mktemp("scattered")))


def frame_of(rows: TrainingRows) -> pd.DataFrame:
    """The labelled rows by pandas alone, in no order that we have chosen."""
    frame = rows.table.delta_table.to_pandas()
    return frame[frame["species"].notna()]


def in_order(frame: pd.DataFrame) -> list[str]:
    return sorted(map(repr, frame.astype(object).where(frame.notna(), None).to_numpy().tolist()))


def learnt(task: str = "classification", **changes: Any) -> tuple[config.Config, pd.DataFrame]:
    """A config that asks for something of a model, and rows by which it can be learnt."""
    frame = flowers(3000)
    random = np.random.default_rng(3)
    length = frame["petal_length"].fillna(4).to_numpy()
    frame["code"] = random.integers(0, 9, 3000) * 1000
    frame["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(random.permutation(3000), unit="h")
    frame["day"] = frame["day"].astype("datetime64[us]")
    frame["importance"] = random.random(3000)
    frame["height"] = np.exp(length / 3 + 0.1 * (frame["code"] > 4000) + random.normal(0, 0.1, 3000))
    types = {"code": {"type": "long", "categorical": True}, "day": {"type": "timestamp"}}
    target = {"height": {"type": "double"}} if task == "regression" else {"species": {"type": "string"}}
    columns = {name: given for name, given in FLOWERS["columns"].items() if name != "species"}
    model = {**FLOWERS["model"], **changes.pop("model", {})}
    weight = {"importance": {"type": "double"}} if "weight" in changes else {}
    settings = flowers_config(
        task=task, target=next(iter(target)), columns={**columns, **types, **target, **weight}, model=model, **changes
    )
    return settings, frame[list(settings.columns)]


LEARNT = {
    "dates and codes": learnt(),
    "weights of rows": learnt(weight="importance"),
    "balanced classes": learnt(model={"class_weights": "balanced"}),
    "weights of classes and of rows": learnt(model={"class_weights": {"setosa": 5.0}}, weight="importance"),
    "split by time": learnt(split={"time": "day"}),
    "log target": learnt("regression", model={"target_transform": "log"}),
    "absolute error": learnt("regression", model={"objective": "reg:absoluteerror"}),
    "quantile": learnt("regression", model={"objective": "reg:quantileerror", "quantile": 0.8}),
    "tweedie": learnt("regression", model={"objective": "reg:tweedie", "params": {"tweedie_variance_power": 1.2}}),
    "a constraint and parameters": learnt(
        "regression",
        model={"monotone": {"petal_length": "decreasing"}, "params": {"max_bin": 64, "max_leaves": 6}, "gamma": 0.1},
    ),
}


class TestWhateverIsLearnt:
    @pytest.mark.parametrize("name", LEARNT)
    def test_it_is_the_same_from_memory_from_batches_and_from_disk(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings, frame = LEARNT[name]
        rows = rows_of(table_of([frame[:1000], frame[1000:2500], frame[2500:]], tmp_path), settings)
        survey = surveyed(rows)
        schema = schema_of(rows, survey)
        expected = training.fit_booster(rows.frames(survey), schema, model=settings.model)
        monkeypatch.setattr(local_training, "KEPT_SHARE", 0)
        for on_disk in (False, True):
            engine = engines.Engine(name="local", on_disk=on_disk, reason="")
            fit = training.fit_rows(rows, survey, schema, model=settings.model, engine=engine)
            assert fit.booster.save_raw("ubj") == expected.booster.save_raw("ubj")
            assert (fit.best_round, fit.metric) == (expected.best_round, expected.metric)

    @pytest.mark.parametrize("name", LEARNT)
    def test_its_schema_and_its_parts_are_those_of_all_rows_at_once(self, name: str, tmp_path: Path) -> None:
        settings, frame = LEARNT[name]
        rows = rows_of(table_of([frame[:1000], frame[1000:2500], frame[2500:]], tmp_path), settings)
        split_settings = split.with_boundaries(split.settings_of(settings), frame)
        parts, survey = split.split(frame, split_settings), surveyed(rows)
        assert rows.split_settings == split_settings
        assert schema_of(rows, survey) == training.learn_schema(
            parts, settings, split_settings=split_settings, table_uri=str(rows.table)
        )
        assert in_order(rows.frames(survey).validation) == in_order(parts.validation)

    def test_codes_beyond_what_a_double_holds_stay_as_they_are_beside_missing_ones(self, tmp_path: Path) -> None:
        columns = {"code": {"type": "long", "categorical": True}, "species": {"type": "string"}}
        codes = pd.array([(2**53 if number < 200 else 0) + number % 4 for number in range(400)], dtype="Int64")
        frame = pd.DataFrame({"code": codes, "species": [f"species {number % 4 // 2}" for number in range(400)]})
        frame["code"] = frame["code"].mask(frame.index > 300)
        settings = flowers_config(columns=columns, split={"columns": ["code"]})
        rows = rows_of(table_of([frame[:200], frame[200:]], tmp_path), settings)
        batches = [*rows.batches()]
        assert {str(batch["code"].dtype) for batch in batches} == {"int64", "float64"}
        read = predictions.joined(batches)["code"]
        assert set(read.dropna()) == {first + number for first in (0, 2**53) for number in range(4)}

    def test_of_values_that_nobody_can_learn_not_all_are_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(features, "MOST_LEVELS", 20)
        monkeypatch.setattr(features, "LEVELS_TO_COUNT", 50)
        frame = flowers(3000).assign(color=[f"color {number}" for number in range(3000)])
        rows = rows_of(table_of([frame[begin : begin + 100] for begin in range(0, 3000, 100)], tmp_path))
        survey = surveyed(rows)
        assert 50 < survey.seen["color"].notna().sum() <= 150
        with pytest.raises(TableUnfit, match="color has more than 50 different values in its train part, .* most 20"):
            schema_of(rows, survey)

    def test_whole_numbers_that_float32_rounds_are_counted_in_all_batches(self, tmp_path: Path) -> None:
        frame = flowers(400)
        frame.loc[[3, 350], "petals"] = 2**24 + 1
        assert surveyed(rows_of(table_of([frame[:200], frame[200:]], tmp_path))).rounded == {"petals": 2}


class TestTrainingRows:
    def test_each_pass_reads_the_same_rows_in_the_same_order(self, scattered: TrainingRows) -> None:
        first = pd.concat(scattered.batches())
        for _ in range(5):
            pd.testing.assert_frame_equal(pd.concat(scattered.batches()), first)

    def test_its_parts_are_those_of_the_whole_table(self, scattered: TrainingRows) -> None:
        survey, whole = surveyed(scattered), frame_of(scattered)
        expected = split.split(whole, scattered.split_settings)
        for name in split.PARTS:
            part = pd.concat(scattered.of(name, survey=survey))
            assert in_order(part) == in_order(getattr(expected, name)[part.columns])
            assert getattr(survey.parts, name)["species"].tolist() == part["species"].tolist()

    def test_a_survey_sees_what_the_train_part_holds(self, scattered: TrainingRows) -> None:
        survey = surveyed(scattered)
        train = split.split(frame_of(scattered), scattered.split_settings).train
        assert set(survey.seen["color"].dropna()) == set(train["color"].dropna())
        assert survey.seen["petals"].notna().sum() == 1
        assert survey.unlabelled == 3000 - len(frame_of(scattered))
        assert list(survey.example) == scattered.settings.features
        assert len(survey.example) == 3

    def test_its_schema_is_that_of_the_whole_table(self, scattered: TrainingRows) -> None:
        survey, parts = surveyed(scattered), split.split(frame_of(scattered), scattered.split_settings)
        settings, uri = scattered.split_settings, str(scattered.table)
        whole = training.learn_schema(parts, scattered.settings, split_settings=settings, table_uri=uri)
        assert schema_of(scattered, survey) == whole

    def test_a_table_of_unlabelled_rows_has_empty_parts(self, tmp_path: Path) -> None:
        frame = flowers(20).assign(species=pd.Series([None] * 20, dtype="string"))
        rows = rows_of(table_of([frame], tmp_path))
        survey = surveyed(rows)
        assert (len(survey.parts.train), survey.unlabelled) == (0, 20)
        with pytest.raises(TableUnfit, match=r"(?s)its train part has no labelled row.*ingest rows that have a label"):
            schema_of(rows, survey)


class FilesDuringTraining(xgboost.callback.TrainingCallback):
    """How large the files in a folder are while a booster is trained."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.size_bytes = folder, 0

    def after_iteration(self, *_: object) -> bool:
        self.size_bytes = sum(path.stat().st_size for path in self.folder.iterdir())
        return False


def boosted(
    rows: TrainingRows,
    *,
    cache: Path | None = None,
    callbacks: Sequence[xgboost.callback.TrainingCallback] = (),
    **changes: object,
) -> Boosted:
    survey = surveyed(rows)
    model = rows.settings.model.model_copy(update=changes)
    recipe = training.recipe_of(survey.parts.train, schema_of(rows, survey), model)

    def blocks(part: str) -> Iterator[Block]:
        return map(recipe.encode, rows.of(part, survey=survey))

    return local_training.boost(
        recipe, lambda: blocks("train"), lambda: blocks("validation"), cache=cache, callbacks=callbacks
    )


def content(boosted: Boosted) -> bytes:
    return bytes(boosted.booster.save_raw("ubj"))


class TestLocalTraining:
    def test_it_is_what_xgboost_makes_of_one_matrix_of_these_rows(self, scattered: TrainingRows) -> None:
        """By a DMatrix of the whole, which XGBoost bins by itself."""
        survey = surveyed(scattered)
        colors, species = ["blue", "red", "white"], ["setosa", "versicolor", "virginica"]
        matrices = []
        for part in ("train", "validation"):
            rows = pd.concat(scattered.of(part, survey=survey)).reset_index(drop=True)
            frame = rows[["petal_length", "petals", "wild"]].astype(float)
            frame["color"] = rows["color"].astype(pd.CategoricalDtype(colors))
            codes = rows["species"].map(species.index)
            matrices.append(xgboost.DMatrix(frame, label=codes, enable_categorical=True))
        model = scattered.settings.model
        reference = xgboost.train(
            {
                "objective": "multi:softprob",
                "num_class": 3,
                "max_depth": model.max_depth,
                "learning_rate": model.learning_rate,
                "nthread": 1,
            },
            matrices[0],
            num_boost_round=5,
        )
        ours = boosted(scattered, num_boost_round=5).booster
        np.testing.assert_allclose(
            ours.predict(matrices[1], validate_features=False), reference.predict(matrices[1]), rtol=1e-5
        )

    def test_rows_that_are_read_in_each_pass_give_the_bytes_of_rows_that_are_kept(
        self, scattered: TrainingRows, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = boosted(scattered)
        monkeypatch.setattr(local_training, "KEPT_SHARE", 0)
        assert content(boosted(scattered)) == content(kept)

    def test_bins_on_disk_give_the_same_bytes_and_are_removed(self, scattered: TrainingRows, tmp_path: Path) -> None:
        seen_on_disk = FilesDuringTraining(tmp_path)
        on_disk = boosted(scattered, cache=tmp_path, callbacks=[seen_on_disk])
        assert seen_on_disk.size_bytes > 2000
        assert not list(tmp_path.iterdir())
        assert content(on_disk) == content(boosted(scattered))

    def test_a_value_that_is_refused_is_told_from_within_a_pass(self, tmp_path: Path) -> None:
        frame = flowers(400).astype({"petals": "float64"})
        frame.loc[7, "petals"] = 3.5
        rows = rows_of(table_of([frame], tmp_path))
        with pytest.raises(TableUnfit, match="column 'petals': 3.5 is not a whole number"):
            boosted(rows)

    @pytest.mark.parametrize("error", [Interrupted(signal.SIGTERM), OSError("a file is gone")])
    @pytest.mark.parametrize(
        ("on_disk", "pass_number"), [*((False, number) for number in range(2, 9)), *((True, n) for n in range(1, 6))]
    )
    def test_what_ends_a_pass_ends_it_all_and_gives_no_model_of_some_rows(
        self, pass_number: int, error: BaseException, on_disk: bool, tmp_path: Path
    ) -> None:
        """XGBoost by itself would go on with fewer rows, or break its memory."""
        passes: list[None] = []

        def blocks() -> Iterator[Block]:
            passes.append(None)
            for number in range(pass_number, pass_number + 4):
                if len(passes) == pass_number and number % 4 == 2:
                    raise error
                yield Block(features=np.full((100, 2), number, dtype=np.float32), target=np.arange(100.0))

        recipe = Recipe(
            parameters={"nthread": 1},
            num_boost_round=2,
            early_stopping_rounds=None,
            names=["x", "y"],
            types=["q", "q"],
            encode=lambda _: Block(features=np.empty((0, 2)), target=np.empty(0)),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local_training, "KEPT_SHARE", 0)
            with pytest.raises(type(error), match="143|a file is gone"):
                local_training.boost(recipe, blocks, blocks, cache=tmp_path if on_disk else None)

    def test_the_rows_are_let_go_before_the_first_round(self, scattered: TrainingRows) -> None:
        """XGBoost holds on to what it reads them from, and boosting needs their bins alone."""
        survey = surveyed(scattered)
        recipe = training.recipe_of(survey.parts.train, schema_of(scattered, survey), scattered.settings.model)
        encoded: list[weakref.ref[np.ndarray]] = []

        def blocks(part: str) -> Iterator[Block]:
            for rows in scattered.of(part, survey=survey):
                block = recipe.encode(rows)
                encoded.append(weakref.ref(block.features))
                yield block

        held: list[int] = []

        class Count(xgboost.callback.TrainingCallback):
            def before_training(self, model: xgboost.Booster) -> xgboost.Booster:
                held.append(sum(array() is not None for array in encoded))
                return model

        local_training.boost(recipe, lambda: blocks("train"), lambda: blocks("validation"), callbacks=[Count()])
        assert len(encoded) > 10
        assert held == [0]

    def test_without_early_stopping_all_rounds_are_kept(self, scattered: TrainingRows) -> None:
        rounds = boosted(scattered, early_stopping_rounds=None, num_boost_round=7)
        assert (rounds.best_round, len(rounds.history["validation"]["mlogloss"])) == (7, 7)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with 8 GiB of free memory and 100 GiB of free disk, and no Spark elsewhere."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 8 * GIB)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100 * GIB))
    monkeypatch.delenv("SPARK_REMOTE", raising=False)
    return monkeypatch


class TestChoose:
    @pytest.mark.parametrize(
        ("asked", "needed_gib", "remote", "name", "on_disk"),
        [
            (None, 4, "", "local", False),
            (None, 5, "", "local", True),
            (None, 50, "", "local", True),
            (None, 4, "sc://cluster", "local", False),
            (None, 50, "sc://cluster", "local", True),
            (None, 51, "sc://cluster", "spark", False),
            ("local", 5, "sc://cluster", "local", True),
            ("spark", 1, "", "spark", False),
        ],
    )
    def test_by_size_unless_one_is_asked_for(
        self, machine: pytest.MonkeyPatch, asked: config_model.EngineName | None, needed_gib: int, remote: str,
        name: str, on_disk: bool,
    ) -> None:  # fmt: skip
        machine.setenv("SPARK_REMOTE", remote)
        engine = engines.choose(asked, needed_bytes=needed_gib * GIB)
        assert (engine.name, engine.on_disk) == (name, on_disk)
        assert engine.is_worth_saying == (on_disk or name == "spark")

    @pytest.mark.parametrize(("asked", "remote"), [(None, ""), ("local", ""), ("local", "sc://cluster")])
    def test_what_fits_nowhere_is_told_with_what_is_free(
        self, machine: pytest.MonkeyPatch, asked: config_model.EngineName | None, remote: str
    ) -> None:
        machine.setenv("SPARK_REMOTE", remote)
        with pytest.raises(
            MatrixTooLarge, match=r"up to 51\.0 GiB; free are 8\.0 GiB of memory and 100\.0 GiB of disk"
        ):
            engines.choose(asked, needed_bytes=51 * GIB)

    def test_a_search_that_does_not_fit_is_told_before_it_begins(self, machine: pytest.MonkeyPatch) -> None:
        kinds = ["string", "double"]  # 88 bytes a row, three times
        engines.check_search_fits(kinds, rows=10 * 10**6, matrix_bytes=GIB)
        with pytest.raises(SearchTooLarge, match=r"(?s)up to 5\.9 GiB; 8\.0 GiB of memory are free.*trials=0"):
            engines.check_search_fits(kinds, rows=20 * 10**6, matrix_bytes=GIB)

    def test_the_reason_says_what_is_needed_and_what_is_free(self, machine: pytest.MonkeyPatch) -> None:
        reason = engines.choose(None, needed_bytes=10 * 2**20).reason
        assert reason == "training takes up to 10.0 MiB, and 8.0 GiB of memory are free"

    def test_a_parameter_that_workers_cannot_be_given_is_refused_for_them_alone(self) -> None:
        model = flowers_config(model={**FLOWERS["model"], "params": {"device": "cuda"}}).model
        local, spark = (engines.Engine(name=name, on_disk=False, reason="") for name in ("local", "spark"))
        training.check_engine(local, model, path="flowers.yaml")
        with pytest.raises(ConfigInvalid, match="model.params: device cannot be given to Spark's workers; .*=local"):
            training.check_engine(spark, model, path="flowers.yaml")

    def test_a_name_that_there_is_not_is_one_message(self) -> None:
        with pytest.raises(ParametersInvalid, match="engine='sprak': input should be 'local' or 'spark'"):
            parameters.parse(TrainParameters, ["--engine=sprak"], entry_point="train")


def test_memory_is_that_of_the_container_where_it_is_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, usage = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(memory, "CGROUPS", [(limit, usage, "inactive_file")])
    of_machine = memory.available_bytes()
    for text, expected in ((f"{300 * 2**20}\n", 100 * 2**20), ("max\n", of_machine)):
        limit.write_text(text)
        usage.write_text(f"{200 * 2**20}\n")
        assert memory.available_bytes() == pytest.approx(expected, rel=0.2)
    limit.write_text(f"{300 * 2**20}")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {150 * 2**20}\nactive_file 7\n")  # files in a cache
    assert memory.available_bytes() == 250 * 2**20
