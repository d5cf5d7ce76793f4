"""Parquet files."""

import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clingpt.base import console
from clingpt.base.errors import DataError
from clingpt.data.readers.reading import Reading
from clingpt.data.readers.text_file import Placed, check_unique, open_bytes

PARQUET_ROWS = 64  # decoded at a time: a cell may have 10 MB


def read_parquet(path: Path, _reading: Reading) -> Iterator[Placed]:
    """Yield row by row; only one batch is decoded at a time."""
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    n_rows = 0
    with open_bytes(path) as file:
        try:
            table = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
            names = table.schema_arrow.names
            check_unique(names, str(path))
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, use_threads=False):
                columns = [_plain(column).to_pylist() for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    n_rows += 1
                    yield f"{path}:{n_rows}", dict(zip(names, cells, strict=True))
        except (OSError, EOFError, zlib.error, pyarrow.ArrowException, UnicodeError) as error:
            reason = textwrap.shorten(console.safe_line(str(error)), 200, placeholder=" …")
            raise DataError(
                f"{path}: damaged or not Parquet (after row {n_rows}: {reason}); copy the file "
                "again"
            ) from None


def _plain(column: Any) -> Any:
    """Convert times and decimals to text as in a CSV; Python has no nanoseconds."""
    import pyarrow

    kinds = pyarrow.types
    if kinds.is_duration(column.type):
        column = column.cast(pyarrow.int64())
    elif kinds.is_temporal(column.type) or kinds.is_decimal(column.type):
        column = column.cast(pyarrow.string())
    return column
