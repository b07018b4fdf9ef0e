"""What MLflow's page of a registered model tells: what it is, what its aliases name, and how these moved."""

from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from steps.core import markdown
from steps.core.models import aliases, registry

TEMPLATE = Path(__file__).with_name("model_page.md.j2")
MOVES = 10  # of each alias that are listed


def describe(name: str) -> None:
    """Rewrite the description of a registered model, where it has a version."""
    model, versions = registry.find_model(name), registry.newest(name, count=1)
    if model and versions:
        text = markdown.shortened(lambda rows: page(model, versions[0], rows=rows), registry.description_room(model))
        registry.describe(model, text)


def page(model: RegisteredModel, newest: ModelVersion, *, rows: int = MOVES) -> str:
    """The description; each alias with at most `rows` of its last moves."""
    moves = {alias: aliases.moves_of(model, alias)[::-1] for alias in aliases.aliases_with_history(model)}
    return markdown.render(
        TEMPLATE,
        newest=newest,
        named={alias: registry.find(model.name, str(number)) for alias, number in sorted(model.aliases.items())},
        lost=[alias for alias in moves if alias not in model.aliases],
        moves={alias: [asdict(move) for move in of_alias] for alias, of_alias in moves.items() if of_alias},
        rows=min(rows, MOVES),
        promote=markdown.code_block(aliases.promote_command(model.name, aliases.STAGING)),
        back=markdown.code_block(aliases.promote_command(model.name, "previous")),
        verdict=registry.VERDICT,
        version_link=lambda number: markdown.link(
            f"version {number}", f"#/models/{quote(model.name, safe='')}/versions/{number}"
        ),
    )
