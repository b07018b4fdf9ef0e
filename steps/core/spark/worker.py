"""What Spark's workers call for the rows of a task, as DataFrame.mapInArrow() takes it."""

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

type Worker = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]
