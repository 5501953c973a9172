"""Bring data files from where their authors publish them, with checksums; say where to put those that cannot be."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfl.errors import DataError, UserError, unknown_name
from vfl.registry import names

FATE = "https://raw.githubusercontent.com/FederatedAI/FATE/b5bc281c56bf5768d0f36498381abcd656605808/examples/data/"
MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
EMBEDDED = ("adult", "breast_cancer", "digits", "synthetic_ads")


@dataclass(frozen=True, slots=True)
class Remote:
    """One file: its address, its checksum as `ALGORITHM:HEX`, and the folder of the data root that it belongs in."""

    address: str
    checksum: str
    folder: str
    unpack: bool = False

    @property
    def file(self) -> str:
        """The file's own name."""
        return self.address.rpartition("/")[2]


def _idx(base: str, folder: str, *checksums: str) -> tuple[Remote, ...]:
    stems = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        Remote(f"{base}{stem}-ubyte.gz", f"md5:{checksum}", folder)
        for stem, checksum in zip(stems, checksums, strict=True)
    )


REMOTE: dict[str, tuple[Remote, ...]] = {
    "cifar10": (
        Remote(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "md5:c58f30108f718f92721af3b95e74349a",
            "cifar10",
            unpack=True,
        ),
    ),
    "mnist": (
        *_idx(
            MNIST,
            "mnist",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        *_idx(
            FASHION,
            "fashion",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "fate": tuple(
        Remote(f"{FATE}{name}", f"sha256:{checksum}", "fate")
        for name, checksum in (
            ("breast_hetero_guest.csv", "6b258b1514181bd645ea37a9ba3795a014075f465dfa51af08ecf19f068baeae"),
            ("breast_hetero_host.csv", "8f9edc41763176ba12598f86646a177e347c1b85b5549896044f9532d964ea6f"),
            ("default_credit_hetero_guest.csv", "4fd6be40766423cd4fd567f3ed4162f9ec512388a2eab2f265f46247c5ae90b0"),
            ("default_credit_hetero_host.csv", "36880a1b1e6a5b85bcb1e7d8b58cb2b024b45422ec29881c8df562e17c4bc6b7"),
            ("vehicle_scale_hetero_guest.csv", "43034770a34993675fdf34525f7f20805f1570066dfcb31f6145d5a70204a7ed"),
            ("vehicle_scale_hetero_host.csv", "ded56f6e71c96e9305f7bc3f283dc5e9e25ec52ede13d7db4ab6a86218e3314c"),
        )
    ),
    "give_credit": (
        Remote(
            f"{FATE}give_credit_homo_test.csv",
            "sha256:717b3cc3b371ab6f8dbabe741636c62148f8efecbfbb00fe7c43c9722601ec6e",
            "give_credit",
        ),
    ),
}
"""Checksums of MNIST, Fashion-MNIST and CIFAR-10 are their authors'; those of FATE's files were computed from them."""


def fetch(name: str, root: Path) -> dict[str, Any]:
    """Download the files of a data set into `root`, skipping those that are there; returns what the command prints.

    Raises `RegistryError`-like `UserError` for an unknown or embedded set, `DataError` where a set must be fetched by
    hand (it asks for an account or for consent to its terms), where there is no network or a checksum differs.
    """
    if name not in names("data"):
        raise UserError(unknown_name("data", name, names("data")), where="data fetch")
    if name in EMBEDDED or name == "csv":
        raise UserError("got a set without files of its own, allowed others; use it as it is", key=name)
    if name not in REMOTE:
        raise by_hand(name, root)
    return {"schema": 1, "name": name, "root": str(root), "files": [str(_one(each, root)) for each in REMOTE[name]]}


def by_hand(name: str, root: Path) -> DataError:
    """Return the error that says which file of a set a person has to put where."""
    from vfl.registry import build

    try:
        build("data", name).describe(root)
    except DataError as error:
        return DataError(
            f"{error.message}; its publisher asks for an account or consent, so vfl fetches none", key=name
        )
    return DataError("got a set whose files are there already, allowed those that are absent; use it", key=name)


def _why(error: OSError) -> str:
    return "the folder cannot be written" if isinstance(error, PermissionError | FileExistsError) else "no connection"


def _one(remote: Remote, root: Path) -> Path:
    try:
        import pooch
    except ImportError:
        raise UserError("got no pooch, allowed it installed; run: pip install 'vfl-platform[fetch]'") from None
    folder = root / remote.folder
    try:
        pooch.get_logger().setLevel("ERROR")
        found = Path(pooch.retrieve(remote.address, remote.checksum, fname=remote.file, path=folder))
    except (OSError, ValueError) as error:
        reason = "its checksum differs" if isinstance(error, ValueError) else _why(error)
        message = f"cannot fetch {remote.address} ({reason}); fetch it yourself and put it into {folder}"
        raise DataError(message, key=remote.folder) from None
    if remote.unpack:
        with tarfile.open(found) as archive:
            archive.extractall(folder, filter="data")
    return found
