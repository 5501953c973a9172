"""The advertiser alone, on all rows that it has labels of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vfl.methods.local import Local
from vfl.types import Pool


@dataclass(frozen=True)
class LocalAll(Local):
    """The advertiser alone, on all rows that it has labels of.

    The baseline that a partner must beat: its own labels cost the advertiser nothing. No message leaves it.
    `min_steps` keeps training going where an epoch has few rows.
    """

    pool: ClassVar[Pool] = Pool.LABELLED
