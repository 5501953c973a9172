"""MNIST and Fashion-MNIST, from the files their authors publish or a numpy archive."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.checks import check_columns
from vfl.data.images import Parts, cut_pixels, pixel_frame, pixel_names
from vfl.data.layout import Place
from vfl.errors import DataError

SIDE = 28
COLUMNS = pixel_names(SIDE, SIDE)
FOLDERS = {"digits": ("mnist*",), "fashion": ("fashion*",)}
FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
IDX_IMAGES, IDX_LABELS = 2051, 2049


@dataclass(frozen=True, slots=True)
class Mnist:
    """MNIST digits, or with `pictures: fashion` Fashion-MNIST: images of 28x28 pixels, ten classes.

    Features are `px_ROW_COLUMN`, 0 to 255. The publisher holds the left half, the advertiser the right half and the
    label; with `parts: quadrants` three publishers and the advertiser hold a quarter each. Files are the four idx files
    (also gzipped), whose t10k part is the official test set, or one `.npz` with arrays `x` and `y` and no test set.

    Reference: Yann LeCun, Léon Bottou, Yoshua Bengio, Patrick Haffner, Gradient-Based Learning Applied to Document
    Recognition, Proceedings of the IEEE 1998, https://doi.org/10.1109/5.726791; Han Xiao, Kashif Rasul, Roland
    Vollgraf, Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747
    """

    pictures: Literal["digits", "fashion"] = "digits"
    parts: Parts = "halves"

    def describe(self, root: Path | None) -> Described:
        """Return the table's shape."""
        files = self._files(root)
        classes = FASHION if self.pictures == "fashion" else tuple(str(digit) for digit in range(10))
        split = cut_pixels(COLUMNS, SIDE, SIDE, self.parts)
        rows, official = len(self.labels(root)), len(files) > 2
        return Described(rows, COLUMNS, (), "class", classes, split, official_test=official, files=tuple(files))

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these pixels for all rows, training rows first."""
        check_columns(columns, COLUMNS, where="mnist")
        images = [_images(path) for path in self._files(root) if "label" not in path.name]
        return pixel_frame(np.concatenate(images), COLUMNS, columns)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` int64: the digit, or the number of the garment."""
        found = [_labels(path) for path in self._files(root) if path.suffix == ".npz" or "label" in path.name]
        return np.concatenate(found).astype(np.int64)

    def test_rows(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` bool: the rows of the t10k files."""
        counts = [len(_labels(path)) for path in self._files(root) if "label" in path.name]
        return np.arange(sum(counts)) >= counts[0]

    def _files(self, root: Path | None) -> list[Path]:
        """Return images and labels of the training part and, where they are there, of the test part, or one archive."""
        folders = FOLDERS[self.pictures]
        origin = "train-images-idx3-ubyte.gz and its three companions, or an .npz with arrays x and y,"
        stems = [f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
        places = [Place(folders, (f"{stem}*", f"{stem.replace('-idx', '.idx')}*"), origin) for stem in stems]
        found = [path for place in places for path in place.find(root, required=False)[:1]]
        return found if len(found) in (2, 4) else Place(folders, ("*.npz",), origin).find(root)[:1]


def _images(path: Path) -> np.ndarray:
    return _archive(path, "x") if path.suffix == ".npz" else _idx(path, IDX_IMAGES, 16).reshape(-1, SIDE * SIDE)


def _labels(path: Path) -> np.ndarray:
    return _archive(path, "y") if path.suffix == ".npz" else _idx(path, IDX_LABELS, 8)


def _archive(path: Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays:
        if name not in arrays:
            raise DataError(f"got arrays {', '.join(arrays)}, allowed x and y; write it again", where=str(path))
        return arrays[name]


def _idx(path: Path, magic: int, header: int) -> np.ndarray:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    sizes = np.frombuffer(data[:header], ">i4")
    if len(sizes) * 4 != header or sizes[0] != magic or len(data) != header + int(np.prod(sizes[1:])):
        raise DataError("got another layout, allowed idx files of 28x28 images; fetch it again", where=str(path))
    return np.frombuffer(data, np.uint8, offset=header)
