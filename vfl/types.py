"""The frozen values that everything else is written in. Imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

PartyId = str
"""Name of a party, unique in a run: `publisher_1`, `publisher_2`, ..., `advertiser`, `referee`."""


ADVERTISER: PartyId = "advertiser"
REFEREE: PartyId = "referee"


class Kind(StrEnum):
    """What an envelope carries; defenses and attacks name the kinds they act on."""

    EMBEDDING = "embedding"
    GRADIENT = "gradient"
    SCORE = "score"
    PSI = "psi"
    CONTROL = "control"


class Role(StrEnum):
    """What a party is for in a round. The referee is the simulation's own: no company plays it."""

    PUBLISHER = "publisher"
    ADVERTISER = "advertiser"
    REFEREE = "referee"


class Pool(StrEnum):
    """A set of rows that batches are drawn from.

    Aligned rows (`train`, `valid`, `test`) have handles that all parties share. `leftover` are a party's own training
    rows that are not aligned, under handles that are that party's alone. The last two only say how many steps an epoch
    takes: `labelled` goes through the aligned training rows and the advertiser's leftovers side by side, `union`
    through the aligned training rows and everyone's leftovers; a party's `batch` of such a step is its aligned part.
    """

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"
    LEFTOVER = "leftover"
    LABELLED = "labelled"
    UNION = "union"


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message body between two parties: a closed schema, with no free-form field to hide things in.

    `rows` holds `(rows,)` int64 aligned handles, shuffled per run, that say nothing of the original order;
    `body` holds `(rows, dim)` values. Seen by `src` and `dst`, and by the coordinator where no channel seals it.
    """

    step: int
    kind: Kind
    src: PartyId
    dst: PartyId
    rows: Tensor
    body: Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """The header that the coordinator hands out for one round; every party sees it.

    `index` counts rounds over the whole run. Rows are `pool[epoch order][start : start + size]`, where the order is
    drawn from a stream that all parties share when `shuffle` is set, and is the handle order otherwise. `of` counts the
    rows of the epoch, where parties hold different numbers of them: each then takes the same share of its own, so that
    an epoch passes once over all rows of everyone. 0 takes the rows as counted.
    """

    index: int
    phase: str
    pool: Pool
    epoch: int = 0
    start: int = 0
    size: int = 0
    shuffle: bool = False
    of: int = 0

    def span(self, rows: int) -> slice:
        """Return the part of `rows` rows that this step takes."""
        if not self.of:
            return slice(self.start, self.start + self.size)
        return slice(self.start * rows // self.of, (self.start + self.size) * rows // self.of)

    @property
    def ends_epoch(self) -> bool:
        """Whether this is the last step of its epoch."""
        return self.start + self.size >= self.of


@dataclass(frozen=True, slots=True)
class Hop:
    """One arrow of a round: every party of `role` runs `handler` on what the hops in `takes` gave it.

    `gives` is the kind of the envelopes it sends, to every party whose hop takes this one; `None` sends nothing, and
    a later hop of the same role that takes it only runs after it.
    """

    name: str
    role: Role
    handler: str
    takes: tuple[str, ...] = ()
    gives: Kind | None = None


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training: the same round, repeated over the batches of a pool for some epochs.

    It goes on past its epochs, of which there may be none, until `min_steps` rounds are played. `validate` has the
    advertiser score the validation rows after each epoch and at the end; a phase that trains no model to predict with
    turns it off.
    """

    name: str
    hops: tuple[Hop, ...]
    epochs: int
    batch_size: int
    pool: Pool = Pool.TRAIN
    min_steps: int = 0
    validate: bool = True
    shuffle: bool = True


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one step as one party holds them: `(rows,)` handles, its features, and labels where it owns them.

    `numeric` is `(rows, p)` float32, `categorical` `(rows, f)` int64 indices into each column's vocabulary,
    `labels` `(rows,)` int64 classes or `None`; where a defense made them, they may be `(rows, classes)` weights.
    """

    rows: Tensor
    numeric: Tensor
    categorical: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True, slots=True)
class TableSchema:
    """What a bottom model must know of a party's columns: `numeric` names, and categorical names with their sizes.

    A size counts the out-of-vocabulary id 0 and the missing id 1.
    """

    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All column names, numeric first."""
        return self.numeric + self.categorical
