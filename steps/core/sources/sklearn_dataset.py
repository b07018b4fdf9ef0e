"""The data sets that come with scikit-learn, as sklearn:<name>, with their labels as text."""

from collections.abc import Collection

import pandas as pd
from pyspark.sql import DataFrame, SparkSession

from steps.core.errors import SourceUnreadable, did_you_mean
from steps.core.sources.source import Source

NAMES = ("iris", "wine", "breast_cancer", "diabetes")


class SklearnDataset(Source):
    scheme = "sklearn"

    @property
    def name(self) -> str:
        return self.uri.removeprefix(f"{self.scheme}:")

    def check(self) -> None:
        if self.name not in NAMES:
            reason = f"there is no data set {self.name!r}{did_you_mean(self.name, NAMES)}; there are {', '.join(NAMES)}"
            raise SourceUnreadable(self.uri, reason)

    def change_token(self) -> str:
        return ""

    def read(self, spark: SparkSession, *, columns: Collection[str] = ()) -> DataFrame:
        return spark.createDataFrame(self.load())

    def load(self) -> pd.DataFrame:
        from sklearn import datasets  # half a second that only these sources pay

        bunch = getattr(datasets, f"load_{self.name}")(as_frame=True)
        table: pd.DataFrame = bunch.frame
        if "target_names" in bunch:
            table["target"] = pd.Series(bunch.target_names)[bunch.target].to_numpy()
        return table
