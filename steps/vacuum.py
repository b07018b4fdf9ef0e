"""Remove the data files of table versions that nobody needs any more, and old models that were never registered.

Reads   the config's table, its predictions, requests and rejects, and those of its unlabelled rows; runs, the registry
Writes  fewer files, and no version of a table; vacuum.json on its run. Never touched: the newest version, one younger
        than keep_days, one that a registered model was trained on, that kept predictions were made of, that a step is
        just reading, or that a receipt younger than keep_days names. With dry_run=true it only says what would go
Fails   TableNotFound; TableUnreadable, for any table of the lake, as it may need files of this one; SparkUnavailable;
        DiskUnusable, for files that this user may not delete
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated

import mlflow
from pydantic import Field

from steps.core.parameters import parameters
from steps.core.tables import location, vacuum
from steps.core.tracking import config_files
from steps.core.workflow import entry_point, retention
from steps.core.workflow.step_spec import StepSpec


@parameters
class VacuumParameters:
    config: str = "configs/iris.yaml"
    lake: str = ""
    keep_days: Annotated[int, Field(ge=0, le=36_500)] = 30
    """Versions that are younger stay, whoever needs them."""
    dry_run: bool = False
    """Only say what would be removed."""


SPEC = StepSpec(name="vacuum", parameters=VacuumParameters)


def main(argv: Sequence[str] | None = None) -> None:
    with entry_point.start(SPEC, argv) as (parameters, run):
        settings = config_files.load(parameters.config, home=location.home())
        lake_root = location.lake_root(parameters.lake)
        limit = datetime.now(UTC) - timedelta(days=parameters.keep_days)
        run.ran_with(limit=limit.isoformat(timespec="seconds"))

        plan = retention.plan(lake_root, settings.name, limit=limit, experiment_id=run.experiment_id)
        if not parameters.dry_run:
            plan = retention.announce(plan, run_id=run.run_id)
            vacuum.delete_files({table.path: table.files for table in plan.tables})
            plan = replace(plan, models=retention.delete_models(plan.models))

        removed = dict.fromkeys(plan.totals(), 0) if parameters.dry_run else plan.totals()
        mlflow.log_metrics({f"{kind}_removed": count for kind, count in removed.items()})
        mlflow.log_dict(plan.record(), "vacuum.json")
        print("\n".join(plan.report(dry_run=parameters.dry_run)))


if __name__ == "__main__":
    main()
