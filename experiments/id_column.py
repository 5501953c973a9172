"""Read the key column of a user's file, refusing what would make two tables match wrongly."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import IO, cast

from vfl.errors import DataError, unknown_name

_MARKS = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_ids(path: Path, key: str) -> list[str]:
    """Return the ids in the column `key` of a CSV or TSV file (`.gz` too), in row order, as they are written.

    Raises `DataError`, naming the file and the lines, for a file that is absent, empty, starts with a byte order mark
    or is not UTF-8, for a missing key column, a row without an id, and an id that stands twice.
    """
    try:
        with _open(path) as stream:
            _refuse_mark(stream, path)
            return _unique(io.TextIOWrapper(stream, encoding="utf-8", newline=""), path, key)
    except UnicodeDecodeError:
        raise _undecodable(path) from None
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"cannot read it ({reason}), allowed a CSV or TSV file; check the path"
        raise DataError(message, where=str(path)) from None


def _unique(text: IO[str], path: Path, key: str) -> list[str]:
    reader = csv.reader(text, delimiter="\t" if ".tsv" in path.suffixes else ",", strict=True)
    first: dict[str, int] = {}
    try:
        place = _column(next(reader, []), path, key)
        for row in reader:
            each, line = _id(row, place), reader.line_num
            if not each:
                message = f"got no id in line {line}, allowed one in each row; fill it in"
                raise DataError(message, key=key, where=str(path))
            if first.setdefault(each, line) != line:
                message = f"got {each!r} in lines {first[each]} and {line}, allowed once; remove one of them"
                raise DataError(message, key=key, where=str(path))
    except csv.Error as error:
        raise DataError(f"got a malformed line {reader.line_num} ({error}); mend it", where=str(path)) from None
    if not first:
        raise DataError("got no row below the header, allowed one or more; check the export", where=str(path))
    return list(first)


def _column(header: list[str], path: Path, key: str) -> int:
    if not header:
        raise DataError("got an empty file, allowed a header and one row or more; check the export", where=str(path))
    if key not in header:
        raise DataError(unknown_name("column", key, header), key="--key", where=str(path))
    if header.count(key) > 1:
        message = f"got {header.count(key)} columns of this name, allowed one; rename them"
        raise DataError(message, key=key, where=str(path))
    return header.index(key)


def _id(row: list[str], place: int) -> str:
    return row[place] if place < len(row) else ""


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _refuse_mark(stream: IO[bytes], path: Path) -> None:
    start = stream.read(3)
    stream.seek(0)
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            raise DataError(f"got a {name} byte order mark, allowed UTF-8 without one; save it again", where=str(path))


def _undecodable(path: Path) -> DataError:
    with _open(path) as stream:
        for line, raw in enumerate(stream, start=1):
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                found = f"got the byte 0x{raw[error.start]:02x} in line {line}"
                return DataError(f"{found}, allowed UTF-8; save it again in that encoding", where=str(path))
    return DataError("got text that is not UTF-8; save it again in that encoding", where=str(path))
