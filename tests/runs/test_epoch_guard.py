"""What becomes of columns with many ids from the second pass on, and how often a run is validated."""

from __future__ import annotations

import pytest
import torch
from harness import config, train
from torch import nn

from parties.renewing import renew
from vfl import coordinator
from vfl.errors import ConfigError
from vfl.seeds import Seeds

FEW_STEPS = {"data": "adult", "holdout": {"test": 0.5, "valid": 0.2}}


def losses(guard: str, epochs: int) -> list[float | None]:
    options = {"epochs": epochs, "batch_size": 5000, "epoch_guard": guard}
    return train(config(train=options, **FEW_STEPS)).progress.losses


@pytest.fixture
def sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adult's columns of a few dozen ids count as sparse ones."""
    monkeypatch.setattr(coordinator, "MANY_IDS", 10)


def test_stop_ends_after_one_pass(sparse):
    assert losses("stop", 3) == losses("off", 1)


def test_fresh_tables_leave_the_first_pass_alone_and_change_the_second(sparse):
    plain, fresh = losses("off", 2), losses("reinit_embeddings", 2)
    half = len(plain) // 2
    assert fresh[:half] == plain[:half]
    assert fresh[half] > plain[half]


def test_without_a_sparse_column_nothing_is_done():
    assert losses("stop", 2) == losses("off", 2)


def test_only_tables_are_drawn_anew_and_only_theirs_is_forgotten():
    net = nn.Sequential(nn.Embedding(5, 2), nn.Linear(2, 1))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.arange(5)).sum().backward()
    optimizer.step()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert renew({"bottom": net, "optimizer": optimizer}, Seeds(0), ("train", 1)) == 1
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"0.weight"}
    assert set(optimizer.state) == set(net[1].parameters())
    drawn = net[0].weight.clone()
    renew({"bottom": net}, Seeds(0), ("train", 2))
    assert not torch.equal(net[0].weight, drawn)
    renew({"bottom": net}, Seeds(0), ("train", 1))
    assert torch.equal(net[0].weight, drawn)


def test_validations_are_so_many_steps_apart_inside_epochs_too_and_the_last_step_is_always_validated():
    options = {"epochs": 5, "batch_size": 100}
    fit = train(config(train=options))
    steps, each = len(fit.progress.losses), len(fit.progress.losses) // 5
    assert each == 4
    assert sorted(fit.progress.valid) == [4, 8, 12, 16, steps]
    often = train(config(train=options | {"validate_every": 3}))
    assert sorted(often.progress.valid) == [3, 6, 9, 12, 15, 18, steps]
    assert often.progress.losses == fit.progress.losses
    assert all(often.progress.valid[step] == fit.progress.valid[step] for step in (12, steps))


def test_rounds_of_phases_that_are_not_validated_do_not_count():
    options = {"epochs": 5, "batch_size": 100, "validate_every": 10}
    fit = train(config(method={"name": "vfl_mpd", "pretrain_epochs": 1}, train=options))
    assert sorted(fit.progress.valid) == [14, 24]


def test_steps_alone_end_in_the_middle_of_an_epoch():
    local = {"method": {"name": "local", "min_steps": 6}, "train": {"epochs": 0, "batch_size": 100}}
    fit = train(config(**local))
    assert len(fit.progress.losses) == 6
    assert max(fit.progress.valid) == 6
    with pytest.raises(ConfigError, match=r"train\.epochs|counts in epochs"):
        train(config(train={"epochs": 0}))
