"""A sealed value leaves by `open()` and by nothing else."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch

from vfl.data.shard import LocalTable
from vfl.referee import Truth
from vfl.sealed import Sealed

SECRET = torch.tensor([8, 6, 7, 5, 3, 0, 9])


@pytest.fixture
def sealed() -> Sealed[torch.Tensor]:
    return Sealed(SECRET)


def test_open_gives_the_very_value(sealed):
    assert sealed.open() is SECRET


WAYS_OUT = {
    **{f"pickle {protocol}": lambda it, p=protocol: pickle.dumps(it, p) for protocol in range(6)},
    "deepcopy": copy.deepcopy,
    "fork": ForkingPickler.dumps,
    "torch.save": lambda it: torch.save(it, io.BytesIO()),
    "json": json.dumps,
}


@pytest.mark.parametrize("way", WAYS_OUT.values(), ids=WAYS_OUT.keys())
@pytest.mark.parametrize("wrap", [lambda it: it, lambda it: {"labels": [it]}, lambda it: Truth(it, 3, 10)])
def test_nothing_serialises_or_copies_it(sealed, way, wrap):
    with pytest.raises(TypeError):
        way(wrap(sealed))


def test_nor_does_a_shallow_copy(sealed):
    with pytest.raises(TypeError, match="stays in its party's process"):
        copy.copy(sealed)


def test_the_same_ways_let_the_bare_value_out():
    """The control: what is refused above is refused because of the seal."""
    for name, way in WAYS_OUT.items():
        if name != "json":
            way({"labels": [SECRET]})


def test_a_table_that_holds_labels_cannot_leave_its_process(sealed):
    table = LocalTable(SECRET, 3, (), (), sealed, SECRET)
    with pytest.raises(TypeError, match="stays in its party's process"):
        pickle.dumps(table)
    with pytest.raises(TypeError, match="stays in its party's process"):
        dataclasses.asdict(table)


def test_nothing_prints_it(sealed, caplog):
    logging.getLogger("test").warning("%s %r", sealed, {"labels": sealed})
    shown = [repr(sealed), str(sealed), f"{sealed}", repr(Truth(sealed, 3, 10)), caplog.text]
    assert not any("8, 6" in text for text in shown)
    assert repr(sealed) == "Sealed(...)"


def test_it_has_no_dictionary_to_walk(sealed):
    with pytest.raises(TypeError):
        vars(sealed)
