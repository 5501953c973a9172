"""Read tables from files: CSV, TSV (also gzipped), parquet and Arrow, a few columns at a time, faults by file and row.

Rows are counted from 1, the header not counted.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute as arrow_compute
from pyarrow import csv as arrow_csv
from pyarrow import feather
from pyarrow import parquet as arrow_parquet

from vfl.data.checks import check_columns
from vfl.data.keys import give_back
from vfl.errors import DataError

MISSING_WORDS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""Texts that stand for a missing value in a text file."""

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".data")
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
"""An archive stands for the first text file in it."""

PARQUET_SUFFIXES = (".parquet", ".pq")
ARROW_SUFFIXES = (".arrow", ".feather", ".ipc")
SEPARATORS = ",\t;|"
FOREIGN_MARKS = (b"\xff\xfe", b"\xfe\xff")
MARK = "\ufeff"
"""Byte order mark. One at the very start of a text file is dropped; elsewhere it would be part of a value, unseen."""

BATCH_ROWS = 2**18
"""Rows of a batch, whatever blocks the file itself is written in."""
_MARKED = "got a byte order mark in {}, allowed one at the start of the file only; remove it, it shows in no editor"
NUMERIC_SHARE = 0.9
"""A text column is numeric where at least this share of its values are numbers; the others are then refused."""


def header(path: Path) -> tuple[str, ...]:
    """Return a file's column names; raises `DataError` for an empty file, a nameless or a repeated column."""
    kind = _kind(path)
    names = _text_header(path) if kind == "text" else tuple(_schema(path, kind).names)
    marked = [place for place, name in enumerate(names, start=1) if MARK in name]
    if marked:
        raise DataError(_MARKED.format("its name"), key=f"column {marked[0]}", where=str(path))
    nameless = [place for place, name in enumerate(names, start=1) if not name.strip()]
    if nameless:
        message = "got no name, allowed a name for each column; name it, or write the file without its index"
        raise DataError(message, key=f"column {nameless[0]}", where=str(path))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError("got this column twice, allowed once; rename one", key=twice[0], where=str(path))
    return names


def load(path: Path, columns: Sequence[str], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Return these columns in the order asked for: text as it stands, NaN where missing; typed files keep their types.

    `names` are the column names of a text file that has no header line. Raises `DataError` naming file, column and row.
    """
    kind = _kind(path)
    check_columns(columns, names or header(path), where=str(path))
    if not columns:
        return pd.DataFrame(index=range(rows(path, names)))
    try:
        table = _load_text(path, columns, names) if kind == "text" else _load_typed(path, columns, kind)
        if kind == "text":
            _refuse_marks(table, 0, path)
    except pa.ArrowInvalid as error:
        raise _fault(path, error) from None
    except (OSError, EOFError) as error:
        raise DataError(f"cannot be read ({_line(error)}); write the file again", where=str(path)) from None
    return table.to_pandas()[list(columns)]


def batches(path: Path, columns: Sequence[str], names: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
    """Yield what `load` returns, `BATCH_ROWS` rows at a time, the last time fewer; memory does not grow with the file.

    A file without rows gives one empty batch. Raises what `load` does, some of it only on the way.
    """
    kind = _kind(path)
    check_columns(columns, names or header(path), where=str(path))
    if not columns:
        total = rows(path, names)
        yield from (pd.DataFrame(index=range(min(BATCH_ROWS, total - at))) for at in range(0, total or 1, BATCH_ROWS))
        return
    pieces = _text_pieces(path, columns, names) if kind == "text" else _typed_pieces(path, columns, kind)
    found = False
    try:
        for table in _regrouped(pieces):
            found = True
            yield table.to_pandas()[list(columns)]
        if not found:
            yield pd.DataFrame(columns=list(columns), dtype=object)
    except pa.ArrowInvalid as error:
        raise _fault(path, error) from None
    except (OSError, EOFError) as error:
        raise DataError(f"cannot be read ({_line(error)}); write the file again", where=str(path)) from None
    finally:
        give_back()


def stamp_of(path: Path) -> tuple[int, int]:
    """Return what changes when a file is written anew: when that was, in ns, and its bytes."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def rows(path: Path, names: Sequence[str] | None = None) -> int:
    """Return how many rows a file has."""
    kind = _kind(path)
    if kind == "parquet":
        return arrow_parquet.read_metadata(path).num_rows
    return sum(len(batch) for batch in batches(path, [(names or header(path))[0]], names))


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return one column of a table."""
    return cast(pd.Series, frame[name])


def parsed(values: pd.Series) -> pd.Series:
    """Return a column's numbers, NaN where a value is none."""
    return cast(pd.Series, pd.to_numeric(values, errors="coerce"))


@dataclass(slots=True)
class Seen:
    """What a column's values have shown so far, batch by batch: whether it holds numbers, and what breaks the rule."""

    rows: int = 0
    there: int = 0
    numbers: int = 0
    codes: bool = False
    words: bool = False
    broken: tuple[int, object] | None = None
    faults: int = 0

    def add(self, values: pd.Series) -> None:
        """Count the next batch."""
        there = int(values.notna().sum())
        if pd.api.types.is_bool_dtype(values.dtype):
            self.words = True
        elif pd.api.types.is_numeric_dtype(values.dtype):
            self.numbers += there
            self._note(values, np.isinf(values.to_numpy(np.float64, na_value=np.nan)))
        else:
            self._add_texts(values)
        self.there += there
        self.rows += len(values)

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers: by its type, or nearly all its texts are numbers without leading zeros."""
        return not (self.words or self.codes) and self.numbers >= NUMERIC_SHARE * self.there

    def require_numbers(self, name: str, where: str) -> None:
        """Raise `DataError` naming the first row whose value is no number."""
        if self.broken is not None:
            raise _no_number(self.broken, self.faults, name, where)

    def _add_texts(self, values: pd.Series) -> None:
        counts = values.value_counts()
        texts = pd.Series(counts.index.astype(str), dtype="str").str.strip()
        numbers = parsed(texts).to_numpy()
        self.numbers += int(counts.to_numpy()[~np.isnan(numbers)].sum())
        self.codes |= bool(texts.str.match(r"[-+]?0\d").any())
        good = np.isfinite(numbers)
        if not good.all():
            self._note(values, values.isin(counts.index[~good]).to_numpy())

    def _note(self, values: pd.Series, broken: np.ndarray) -> None:
        """Count values that break the rule, `(rows,)` bool, and keep the first."""
        self.faults += int(broken.sum())
        if self.broken is None and broken.any():
            place = int(np.argmax(broken))
            self.broken = (self.rows + place, values.iloc[place])


def as_numbers(values: pd.Series, name: str, where: str, first_row: int = 0) -> pd.Series:
    """Return a column as float64; raises `DataError` naming the first row whose value is no finite number."""
    numbers = values if pd.api.types.is_numeric_dtype(values.dtype) else parsed(values)
    found = numbers.astype(np.float64)
    broken = np.flatnonzero(np.isinf(found.to_numpy()) | (found.isna() & values.notna()).to_numpy())
    if broken.size:
        raise _no_number((first_row + int(broken[0]), values.iloc[broken[0]]), broken.size, name, where)
    return found


def as_texts(values: pd.Series) -> pd.Series:
    """Return a column as text, NaN where missing; whole numbers are written without a fraction."""
    if pd.api.types.is_float_dtype(values.dtype):
        texts = (values + 0.0).astype("str").str.removesuffix(".0")  # + 0.0 turns -0.0 into 0.0
    elif pd.api.types.is_string_dtype(values.dtype):
        texts = values
    else:
        texts = values.astype("str")
    return texts.where(values.notna(), np.nan).astype("str")


def _no_number(broken: tuple[int, object], count: int, name: str, where: str) -> DataError:
    value = broken[1].item() if isinstance(broken[1], np.generic) else broken[1]
    got = f"got {value!r} in row {broken[0] + 1}, allowed finite numbers or nothing"
    advice = f"mend {count} such rows, or set data.types={{{name}: categorical}}"
    return DataError(f"{got}; {advice}", key=name, where=where)


def _kind(path: Path) -> str:
    if not path.is_file():
        raise DataError("no such file; check the path", where=str(path))
    suffix = ".csv" if path.name.endswith(ARCHIVE_SUFFIXES) else Path(path.name.removesuffix(".gz")).suffix.lower()
    kinds = (("text", TEXT_SUFFIXES), ("parquet", PARQUET_SUFFIXES), ("arrow", ARROW_SUFFIXES))
    found = [kind for kind, suffixes in kinds if suffix in suffixes]
    if not found:
        allowed = ", ".join((*TEXT_SUFFIXES, *PARQUET_SUFFIXES, *ARROW_SUFFIXES))
        raise DataError(f"got the suffix {suffix!r}, allowed {allowed}; rename or convert it", where=str(path))
    if path.stat().st_size == 0:
        raise DataError("got an empty file, allowed a header and rows; check how it was written", where=str(path))
    return found[0]


def _open(path: Path) -> IO[bytes]:
    if path.name.endswith(ARCHIVE_SUFFIXES):
        return _first_member(path)
    return cast(IO[bytes], gzip.open(path)) if path.name.endswith(".gz") else path.open("rb")


def _arrow_stream(path: Path) -> Any:  # noqa: ANN401 - a pyarrow stream, which has no type
    """Return what arrow reads ahead of: a stream of its own, since one of Python's may abort a process that ends."""
    if path.name.endswith(ARCHIVE_SUFFIXES):
        return _open(path)
    file = pa.OSFile(str(path))
    return pa.CompressedInputStream(file, "gzip") if path.name.endswith(".gz") else file


def _first_member(path: Path) -> IO[bytes]:
    try:
        archive = tarfile.open(path)  # noqa: SIM115 - the member that is returned reads from it
        member = next((each for each in archive if each.isfile() and each.name.endswith(TEXT_SUFFIXES)), None)
    except tarfile.TarError as error:
        raise DataError(f"cannot be read ({_line(error)}); fetch the archive again", where=str(path)) from None
    if member is None:
        raise DataError("got an archive without a text file, allowed one with a .csv; check it", where=str(path))
    return cast(IO[bytes], archive.extractfile(member))


def _first_line(path: Path) -> str:
    try:
        with _open(path) as stream:
            line = stream.readline()
    except (OSError, EOFError) as error:
        raise DataError(f"cannot be read ({_line(error)}); write the file again", where=str(path)) from None
    if line.startswith(FOREIGN_MARKS):
        raise DataError("got UTF-16 text, allowed UTF-8; save it as UTF-8", where=str(path))
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("got a header that is not UTF-8, allowed UTF-8; save it as UTF-8", where=str(path)) from None


def separator(path: Path) -> str:
    """Return what separates the columns of a text file: a tab in .tsv, else what its first line holds most of.

    A space does where there is neither comma, tab, semicolon nor bar.
    """
    if path.name.removesuffix(".gz").endswith(".tsv"):
        return "\t"
    line = _first_line(path)
    best = max(SEPARATORS, key=line.count)
    return best if best in line or " " not in line.strip() else " "


def _text_header(path: Path) -> tuple[str, ...]:
    line = _first_line(path)
    if not line.strip():
        raise DataError("got an empty first line, allowed a header; check how it was written", where=str(path))
    return tuple(next(csv.reader(io.StringIO(line), delimiter=separator(path))))


def _load_text(path: Path, columns: Sequence[str], names: Sequence[str] | None) -> Any:  # noqa: ANN401 - an arrow table, which has no types
    with _arrow_stream(path) as stream:
        return arrow_csv.read_csv(stream, **_text_options(path, columns, names))


def _text_pieces(path: Path, columns: Sequence[str], names: Sequence[str] | None) -> Iterator[Any]:
    with _arrow_stream(path) as stream, arrow_csv.open_csv(stream, **_text_options(path, columns, names)) as reader:
        rows = 0
        for piece in reader:
            _refuse_marks(piece, rows, path)
            rows += piece.num_rows
            yield piece


def _refuse_marks(table: Any, first_row: int, path: Path) -> None:  # noqa: ANN401 - an arrow table, which has no types
    """Raise `DataError` for a byte order mark inside a file: files were joined end to end, it is in a value."""
    for name, values in zip(table.schema.names, table.columns, strict=True):
        marked: Any = cast(Any, arrow_compute).index(_contains(values), True).as_py()
        if marked >= 0:
            raise DataError(_MARKED.format(f"row {first_row + marked + 1}"), key=name, where=str(path))


def _contains(values: Any) -> Any:  # noqa: ANN401 - arrow arrays, which have no types
    return cast(Any, arrow_compute).match_substring(values, MARK)


def _text_options(path: Path, columns: Sequence[str], names: Sequence[str] | None) -> dict[str, Any]:
    return {
        "read_options": arrow_csv.ReadOptions(use_threads=False, column_names=list(names) if names else None),
        "parse_options": arrow_csv.ParseOptions(delimiter=separator(path), newlines_in_values=True),
        "convert_options": arrow_csv.ConvertOptions(
            include_columns=list(columns),
            column_types={column: pa.string() for column in columns},
            null_values=list(MISSING_WORDS),
            strings_can_be_null=True,
        ),
    }


def _load_typed(path: Path, columns: Sequence[str], kind: str) -> Any:  # noqa: ANN401 - as above
    if kind == "parquet":
        return arrow_parquet.read_table(path, columns=list(columns))
    return feather.read_table(path, columns=list(columns), memory_map=True)


def _typed_pieces(path: Path, columns: Sequence[str], kind: str) -> Iterator[Any]:
    if kind == "parquet":  # not mapped: its pages are unpacked anyway, and a map's would stay with the process
        with pa.OSFile(str(path)) as source:
            file = arrow_parquet.ParquetFile(source, pre_buffer=False)  # which would keep all that was read
            yield from file.iter_batches(BATCH_ROWS, columns=list(columns))
        return
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        yield from (reader.get_batch(place).select(list(columns)) for place in range(reader.num_record_batches))


def _regrouped(pieces: Iterator[Any]) -> Iterator[Any]:
    """Yield arrow tables of `BATCH_ROWS` rows, the last of fewer, from record batches of any length."""
    held, count = list[Any](), 0
    for piece in pieces:
        rest = piece
        while count + rest.num_rows >= BATCH_ROWS:
            taken = BATCH_ROWS - count
            yield pa.Table.from_batches([*held, rest.slice(0, taken)])
            rest, held, count = rest.slice(taken), [], 0
        if rest.num_rows:
            held.append(rest)
            count += rest.num_rows
    if held:
        yield pa.Table.from_batches(held)


def _schema(path: Path, kind: str) -> Any:  # noqa: ANN401 - as above
    try:
        if kind == "parquet":
            return arrow_parquet.read_schema(path)
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).schema
    except (pa.ArrowInvalid, OSError) as error:
        raise _fault(path, error) from None


def _fault(path: Path, error: Exception) -> DataError:
    text = str(error)
    if "UTF8" in text or "UTF-8" in text:
        return DataError(f"got {_undecodable(path)}, allowed UTF-8; save it as UTF-8", where=str(path))
    ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", text)
    if ragged:
        row, expected, got = (int(number) for number in ragged.groups())
        message = (
            f"got {got} values in row {row - 1}, allowed {expected} as in the header; mend the row or quote its text"
        )
        return DataError(message, where=str(path))
    if "Empty CSV" in text:
        return DataError("got an empty file, allowed a header and rows; check how it was written", where=str(path))
    return DataError(f"cannot be read ({_line(error)}); write the file again", where=str(path))


def _undecodable(path: Path) -> str:
    """Say where the first text that is not UTF-8 stands; a row may go over several lines, between quotes."""
    names, separates, row, quotes, before = header(path), separator(path), 0, 0, ""
    with _open(path) as stream:
        for line in stream:
            try:
                text = line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                before += line[: error.start].decode("utf-8-sig", "replace")
                place = min(len(next(csv.reader([before], delimiter=separates))), len(names)) - 1
                return f"text in row {row}, column {names[place]!r} that is not UTF-8"
            quotes += text.count('"')
            row, before = (row, before + text) if quotes % 2 else (row + 1, "")
    return "text that is not UTF-8"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
