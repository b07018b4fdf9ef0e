"""Parquet files of one schema, written into a folder or a bucket as rows come, with bounded memory."""

import pyarrow as pa
import pyarrow.parquet as pq

from steps.core.storage import filesystem

ROW_GROUP_BYTES = 64 * 2**20  # of rows in memory
FILE_BYTES = 128 * 2**20  # of Parquet


class ParquetFolder:
    """Takes rows by write() until close(), which says the names of the files; none where there were no rows.

    `writer` is in these names, where others write into the folder too.
    """

    def __init__(self, folder: str, schema: pa.Schema, *, writer: str = "") -> None:
        self._folder = folder
        self._schema = schema
        self._ending = f"-{writer}.parquet" if writer else ".parquet"
        self._rows: list[pa.Table] = []
        self._rows_bytes = 0
        self._buffer: pa.BufferOutputStream | None = None
        self._writer: pq.ParquetWriter | None = None
        self._names: list[str] = []

    def write(self, rows: pa.Table) -> None:
        """Append rows; a file ends when it is large enough."""
        if not len(rows):
            return
        self._rows.append(rows)
        self._rows_bytes += rows.nbytes
        if self._rows_bytes >= ROW_GROUP_BYTES:
            self._end_row_group()
        if self._buffer and self._buffer.tell() >= FILE_BYTES:
            self._end_file()

    def close(self) -> list[str]:
        """Write what is left; the names of the files."""
        if self._rows:
            self._end_row_group()
        if self._writer:
            self._end_file()
        return self._names

    def _end_row_group(self) -> None:
        if self._writer is None:
            self._buffer = pa.BufferOutputStream()
            self._writer = pq.ParquetWriter(self._buffer, self._schema)
        rows = pa.concat_tables(self._rows)
        self._writer.write_table(rows, row_group_size=len(rows))
        self._rows, self._rows_bytes = [], 0

    def _end_file(self) -> None:
        assert self._writer is not None
        assert self._buffer is not None
        self._writer.close()
        name = f"part-{len(self._names):05}{self._ending}"
        filesystem.write(f"{self._folder}/{name}", self._buffer.getvalue().to_pybytes())
        self._names.append(name)
        self._writer = self._buffer = None
