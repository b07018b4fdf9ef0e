"""The model card of a version and the page of its model, on a real registry, read back as Markdown."""

import re
from collections.abc import Iterator
from dataclasses import replace

import mlflow
import pytest
from markdown_it import MarkdownIt
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from place import new_database
from small import TABLE, flower_parts, flowers_config, flowers_model, loaded, tracked

from steps.core.models import aliases, model_card, model_page, registry
from steps.core.models.evaluation import evaluate
from steps.core.models.evaluation_report import report_of
from steps.core.models.gate import Rule
from steps.core.models.scorer import Feature, Schema
from steps.core.models.slices import Slice

READER = MarkdownIt("commonmark", {"html": True}).enable("table")
NASTY = "<script>alert(1)</script> | `x`\n# y"
SHOWN = "<script>alert(1)</script> | `x` # y"


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with tracked(new_database(tmp_path_factory.mktemp("card"))):
        yield


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model's name that no other test uses."""
    return re.sub(r"\W", "_", request.node.name)


def version(name: str, **tags: str) -> ModelVersion:
    client = MlflowClient()
    if registry.find_model(name) is None:
        client.create_registered_model(name)
    with mlflow.start_run() as run:
        mlflow.log_params({"model.max_depth": 3, "model.name": name})
        mlflow.log_metrics({"train_rows": 280, "validation_rows": 44, "test_rows": 76, "best_round": 12})
    return client.create_model_version(name, "file:///nowhere", run_id=run.info.run_id, tags=tags)


@pytest.fixture(scope="module")
def judgement() -> model_card.Judgement:
    settings = flowers_config(gate={"at_least": 0.7, "slices": ["color"]})
    parts, model = flower_parts(), loaded(flowers_model())
    evaluation = evaluate(parts, model, settings=settings, champion=None)
    report = report_of(evaluation, parts.test, model, settings=settings, facts={"table": TABLE})
    return model_card.Judgement(report=report, run_id="0123456789abcdef" * 2, experiment_id="7")


def rows_of(text: str) -> list[list[str]]:
    """The cells of all tables of a text, as they are shown."""
    rows: list[list[str]] = []
    tokens = READER.parse(text)
    for before, token in zip(tokens, tokens[1:], strict=False):
        if token.type == "tr_open":
            rows.append([])
        if before.type in ("th_open", "td_open"):
            rows[-1].append("".join(child.content for child in token.children or []).rstrip("\xa0"))
    return rows


def kinds_of(text: str) -> set[str]:
    tokens = READER.parse(text)
    return {token.type for token in tokens} | {child.type for token in tokens for child in token.children or []}


def test_a_card_before_the_verdict_says_that_there_is_none(name: str) -> None:
    card = model_card.of_version(version(name), flowers_model().schema, judgement=None).text()
    assert card.startswith("Not judged yet: ")
    rows = rows_of(card)
    assert ["rows", "train 280, validation 44, test 76"] in rows
    assert ["split", "test 0.2, validation 0.1, seed 7, by color, petal_length, petals, wild"] in rows
    assert ["features", "petal_length (double), petals (long), wild (boolean), color (string)"] in rows
    assert ["max_depth", "3"] in rows
    assert ["rounds kept", "12"] in rows
    assert "model.name" not in card


@pytest.mark.parametrize(
    ("split", "told"),
    [
        (
            {"columns": [], "time": "day", "boundaries": ["2024-02-15T00:00:00.000000", "2024-02-17T12:30:00.000000"]},
            "by day, validation from 2024-02-15, test from 2024-02-17 12:30:00",
        ),
        ({"columns": ["owner"], "without_group": ["a", "b"]}, "seed 7, by the groups of owner"),
        (
            {"columns": ["id"], "window": "day", "window_days": 30.0, "window_from": "2024-02-01T00:00:00.000000"},
            "seed 7, by id; of rows whose day is in the 30 days from 2024-02-01 on",
        ),
    ],
    ids=["time", "group", "window"],
)
def test_a_card_says_what_decided_a_rows_part(name: str, split: dict[str, object], told: str) -> None:
    schema = replace(flowers_model().schema, split={"test": 0.25, "validation": 0.1, "seed": 7, **split})
    card = model_card.of_version(version(name + str(len(told))), schema, judgement=None).text()
    assert ["split", f"test 0.25, validation 0.1, {told}"] in rows_of(card)


def test_a_card_names_the_weight_and_tells_where_a_class_ends(name: str) -> None:
    schema = replace(flowers_model().schema, classes=("yes", "no, never", "5 %"), weight="petals")
    card = model_card.of_version(version(name), schema, judgement=None).text()
    assert ["weight of a row", "petals"] in rows_of(card)
    shown = READER.render(card)
    assert "into 3 classes (yes, &quot;no, never&quot;, &quot;5 %&quot;)" in shown


def test_a_card_after_it_has_the_metrics_beside_the_baselines_and_the_slices(
    name: str, judgement: model_card.Judgement
) -> None:
    slices = [Slice(column="color", value=value, rows=rows, score=0.75) for value, rows in (("red", 40), ("blue", 36))]
    judged = replace(judgement, report=replace(judgement.report, title=f"models:/{name}/1", slices=slices))
    scores = judgement.report.scores
    card = model_card.of_version(version(name), flowers_model().schema, judgement=judged).text()
    assert card.startswith("Verdict: pass, by [run 01234567](#/experiments/7/runs/")
    rows = rows_of(card)
    model, baseline = scores.values()
    assert ["f1_macro (the gate's)", f"{model['f1_macro']:.4f}", f"{baseline['f1_macro']:.4f}"] in rows
    assert [row for row in rows if row[0].startswith("color = ")] == [
        ["color = red", "40", "0.7500"],
        ["color = blue", "36", "0.7500"],
    ]


def test_a_card_lists_the_gates_rules_with_their_intervals(name: str, judgement: model_card.Judgement) -> None:
    rule = Rule(name="baseline", outcome="pass", sentence="better by 0.5", value=0.5, limit=0, interval=(0.4, 0.61))
    verdict = replace(judgement.report.verdict, rules=(rule,))
    judged = replace(judgement, report=replace(judgement.report, verdict=verdict))
    card = model_card.of_version(version(name), flowers_model().schema, judgement=judged).text()
    assert ["baseline", "pass", "0.4000 to 0.6100", "better by 0.5"] in rows_of(card)


def test_nothing_of_the_users_own_is_markup_in_a_card(name: str, judgement: model_card.Judgement) -> None:
    schema = Schema(
        features=(Feature(name=NASTY, type="string", levels=(NASTY,)),),
        target=NASTY,
        classes=("a", NASTY),
        split={"test": 0.2, "validation": 0.1, "seed": 1, "columns": [NASTY]},
        table_uri=NASTY,
    )
    report = judgement.report
    rule = Rule(name=NASTY, outcome="fail", sentence=NASTY)
    report = replace(
        report,
        facts={NASTY: NASTY},
        verdict=replace(report.verdict, reasons=[NASTY], rules=(rule,)),
        scores={NASTY: {NASTY: 0.5}},
        slices=[Slice(column=NASTY, value=NASTY, rows=30, score=0.5)],
        per_class={NASTY: {"rows": 2.0}},
    )
    judged = version(name, git_commit=NASTY)
    card = model_card.of_version(judged, schema, judgement=replace(judgement, report=report)).text()
    assert not {"html_inline", "html_block", "code_inline"} & kinds_of(card)
    assert [token.content for token in READER.parse(card) if token.type == "fence"][0].startswith("import mlflow\n")
    rows = rows_of(card)
    assert ["trained on", SHOWN] in rows
    assert [SHOWN, "0.5000"] in rows
    assert [SHOWN, "fail", "", SHOWN] in rows
    headings = [text for kind, text in zip(*_kinds_and_texts(card), strict=True) if kind == "heading_open"]
    assert headings == ["Data", "Parameters", "Metrics on the test part", "Rules of the gate", "Slices", "Limits",
                        "How to load"]  # fmt: skip


def _kinds_and_texts(text: str) -> tuple[list[str], list[str]]:
    tokens = READER.parse(text)
    pairs = [(before.type, token.content) for before, token in zip(tokens, tokens[1:], strict=False)]
    return [kind for kind, _ in pairs], [content for _, content in pairs]


def test_the_code_of_a_card_loads_the_version_whatever_its_models_name(judgement: model_card.Judgement) -> None:
    name = "l'iris `2` é"
    card = model_card.of_version(version(name), flowers_model().schema, judgement=None).text()
    (code,) = [token.content for token in READER.parse(card) if token.type == "fence"]
    uri = re.search(r"load_model\((.*)\)", code)
    assert uri is not None
    assert compile(code, "card", "exec")
    assert registry.uri_of(registry.resolve(eval(uri[1]))) == f"models:/{name}/1"


def test_a_card_of_many_features_and_classes_fits_into_mlflows_databases(
    name: str, judgement: model_card.Judgement
) -> None:
    labels = tuple(f"label number {i} of a long list" for i in range(400))
    schema = replace(
        flowers_model().schema,
        features=tuple(Feature(name=f"a feature of number {i}", type="double") for i in range(900)),
        classes=labels,
    )
    report = replace(judgement.report, per_class={label: {"rows": 1.0} for label in labels})
    judged = version(name)
    card = model_card.of_version(judged, schema, judgement=replace(judgement, report=report))
    model_card.describe(judged, card)
    description = registry.resolve(f"models:/{name}/1").description or ""
    assert len(description) <= 5000 < len(card.text())
    assert "## How to load" in description
    assert "and 875 more" in description


def test_a_users_own_text_is_kept_below_the_card_and_the_page(name: str) -> None:
    first, client = version(name), MlflowClient()
    client.update_model_version(name, "1", "Ask Ada first.\n")
    client.update_registered_model(name, "Ours.\n")
    for _ in range(2):
        model_card.describe(first, model_card.of_version(first, flowers_model().schema, judgement=None))
    description = registry.resolve(f"models:/{name}/1").description or ""
    assert description.endswith(" -->\n\nAsk Ada first.")
    assert description.count("Not judged yet: ") == 1
    page = client.get_registered_model(name).description or ""
    assert page.endswith(" -->\n\nOurs.")
    assert page.count("## Aliases") == 1


def test_the_page_of_a_model_tells_its_aliases_their_verdicts_and_their_history(name: str) -> None:
    first = version(name, task="regression", target="price", config="houses", verdict="pass")
    second = version(name, task="regression", target="price", config="houses", verdict="fail")
    aliases.move_alias(first, "production", how="promote")
    aliases.move_alias(second, "production", how="promote", reason=NASTY)
    aliases.move_alias(first, "staging", how="gate")
    model_page.describe(name)
    page = MlflowClient().get_registered_model(name).description
    assert "A regression of price, by the config houses." in page
    assert not {"html_inline", "code_inline"} & kinds_of(page)
    rows = rows_of(page)
    assert ["production", "version 2", "fail"] in rows
    assert ["staging", "version 1", "pass"] in rows
    moves = [row[1:3] + row[4:] for row in rows if row[0].endswith(" UTC")]
    assert moves == [["1", "2", SHOWN], ["–", "1", ""], ["–", "1", ""]]


def test_an_alias_whose_version_was_deleted_is_on_the_page(name: str) -> None:
    first = version(name)
    version(name)
    aliases.move_alias(first, "production", how="promote")
    MlflowClient().delete_model_version(name, "1")
    model_page.describe(name)
    rows = rows_of(MlflowClient().get_registered_model(name).description)
    assert ["production", "nothing now", "–"] in rows
    assert [row[1:3] for row in rows if row[0].endswith(" UTC")] == [["–", "1"]]


def test_only_the_last_moves_are_listed(name: str) -> None:
    versions = [version(name), version(name)]
    for turn in range(14):
        aliases.move_alias(versions[turn % 2], "production", how="promote")
    model_page.describe(name)
    page = MlflowClient().get_registered_model(name).description
    assert len([row for row in rows_of(page) if row[0].endswith(" UTC")]) == 10
    assert "4 earlier moves are in the tags." in page
