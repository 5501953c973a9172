"""CIFAR-10, from the authors' python batches or the parquet edition."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from pyarrow import parquet

from vfl.data import Described
from vfl.data.checks import check_columns
from vfl.data.images import Parts, cut_pixels, pixel_frame, pixel_names
from vfl.data.layout import Place
from vfl.errors import DataError

SIDE, CHANNELS = 32, 3
COLUMNS = pixel_names(SIDE, SIDE, CHANNELS)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDERS = ("cifar10*", "cifar-10*")
ORIGIN = "cifar-10-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html, unpacked,"
TRAIN = Place(FOLDERS, ("data_batch_*", "cifar-10-batches-py/data_batch_*", "train-*.parquet"), ORIGIN)
TEST = Place(FOLDERS, ("test_batch", "cifar-10-batches-py/test_batch", "test-*.parquet"), ORIGIN)
SAFE = ("_reconstruct", "ndarray", "dtype", "encode", "scalar")
"""Names that a pickle of arrays needs; nothing else in one is called."""


@dataclass(frozen=True, slots=True)
class Cifar10:
    """CIFAR-10: colour images of 32x32 pixels, ten classes, 10,000 of them the official test set.

    Features are `px_ROW_COLUMN_CHANNEL`, 0 to 255. The publisher holds the left half, the advertiser the right half and
    the label; with `parts: quadrants` three publishers and the advertiser hold a quarter each. `rows` keeps only the
    first so many training rows, for a quicker run; 0 keeps all. Parquet editions may hold lossy JPEG images: say so
    beside any figure from them.

    Reference: Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html
    """

    parts: Parts = "halves"
    rows: int = 0

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise ValueError(f"got rows={self.rows}, allowed 0 (all) or more; raise it")

    def describe(self, root: Path | None) -> Described:
        """Return the table's shape."""
        files = tuple(path for path, _ in self._taken(root))
        lossy = any(path.suffix == ".parquet" and _is_jpeg(path) for path in files)
        return Described(
            rows=len(self.labels(root)),
            numeric=COLUMNS,
            categorical=(),
            label="class",
            classes=CLASSES,
            split=cut_pixels(COLUMNS, SIDE, SIDE, self.parts),
            official_test=bool(TEST.find(root, required=False)),
            notes=("the images are lossy JPEG, not CIFAR-10's own pixels",) if lossy else (),
            files=files,
        )

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these pixels for all rows, training rows first."""
        check_columns(columns, COLUMNS, where="cifar10")
        frames = [pixel_frame(_images(path, count), COLUMNS, columns) for path, count in self._taken(root)]
        return pd.concat(frames, ignore_index=True)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` int64: the class."""
        return np.concatenate([_labels(path)[:count] for path, count in self._taken(root)])

    def test_rows(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` bool: the rows of the test files."""
        tests = set(TEST.find(root))
        return np.concatenate([np.full(count, path in tests) for path, count in self._taken(root)])

    def _taken(self, root: Path | None) -> list[tuple[Path, int]]:
        """Return the files, training ones first, and how many rows of each are used."""
        taken: list[tuple[Path, int]] = []
        for path in TRAIN.find(root):
            used = sum(count for _, count in taken)
            taken.append((path, min(len(_labels(path)), self.rows - used) if self.rows else len(_labels(path))))
        used_files = [(path, count) for path, count in taken if count]
        return used_files + [(path, len(_labels(path))) for path in TEST.find(root, required=False)]


class _ArraysOnly(pickle.Unpickler):
    """Opens a batch without running anything that a pickle may ask to be run."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - whatever the pickle names
        if module.partition(".")[0] not in ("numpy", "_codecs") or name not in SAFE:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def _batch(path: Path) -> dict[bytes, Any]:
    try:
        with path.open("rb") as file:
            return _ArraysOnly(file, encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, ValueError) as error:
        raise DataError(f"cannot be read ({error}); fetch it again", where=str(path)) from None


def _labels(path: Path) -> np.ndarray:
    if path.suffix != ".parquet":
        return np.asarray(_batch(path)[b"labels"], np.int64)
    table = parquet.read_table(path, columns=["label"])
    return table["label"].to_numpy().astype(np.int64)


def _images(path: Path, count: int) -> np.ndarray:
    """Return the first `count` pictures of a file, `(count, 32, 32, 3)` uint8, decoded once for all parties here."""
    return _decoded(path, count, path.stat().st_mtime_ns)


@lru_cache(maxsize=6)
def _decoded(path: Path, count: int, changed: int) -> np.ndarray:
    if path.suffix != ".parquet":
        planes = np.asarray(_batch(path)[b"data"], np.uint8)[:count].reshape(-1, CHANNELS, SIDE, SIDE)
        return planes.transpose(0, 2, 3, 1)
    found = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in _encoded(path)[:count]]
    return np.stack(found)


def _encoded(path: Path) -> list[bytes]:
    """Return each picture's file, from the column `img` or `image`."""
    column = next(name for name in parquet.read_schema(path).names if name in ("img", "image"))
    values = parquet.read_table(path, columns=[column])[column].combine_chunks()
    return values.field("bytes").to_pylist()


def _is_jpeg(path: Path) -> bool:
    column = next(name for name in parquet.read_schema(path).names if name in ("img", "image"))
    rows = next(parquet.ParquetFile(path).iter_batches(1, columns=[column]))
    return rows.column(0).field("bytes")[0].as_py().startswith(b"\xff\xd8")
