"""The attacker that knows the defense: what a run's defenses declare is what it is attacked with."""

from __future__ import annotations

import pytest
import torch
from harness import config
from scipy.stats import norm as normal

from experiments.adaptive import adapted, afterwards
from experiments.config import check_members
from experiments.progress import Silent
from experiments.run import attack, prepare, simulate
from experiments.schema import AttackSpec
from vfl.attacks.averaging import Averaging
from vfl.errors import ConfigError, UserError
from vfl.registry import build, names
from vfl.transcript import AdversaryView, Hints
from vfl.types import Envelope, Kind

NOISED = [{"name": "gaussian_noise", "ratio": 1.0}]


def keys(asked):
    return [spec.key for spec in asked.attack]


def test_adaptive_stands_for_what_the_defenses_declare_each_once():
    found = adapted(config(attack=["norm", "adaptive"], defense=[*NOISED, {"name": "marvell"}]))
    assert keys(found) == ["norm", "adaptive_averaging"]
    assert found.attack[1].member == {"name": "averaging"}
    assert keys(adapted(config(attack=["norm", "adaptive"]))) == ["norm"]
    assert keys(adapted(config(attack=["adaptive"], defense=[{"name": "clipped_gaussian", "on": "embedding"}]))) == []
    assert keys(prepare(config(attack=["adaptive"], defense=NOISED))[0]) == ["adaptive_averaging"]


def test_a_counter_attack_that_acts_stands_in_a_run_and_not_after_it():
    hidden = config(attack=["norm"], defense=[{"name": "dcor", "protects": "labels"}])
    during = adapted(hidden.model_copy(update={"attack": (AttackSpec(name="adaptive"),)}))
    assert keys(during) == ["adaptive_averaging", "adaptive_embedding_extension"]
    over = [AttackSpec(name="adaptive")]
    assert [spec.key for spec in afterwards(hidden, over)] == ["adaptive_averaging"]
    assert [spec.key for spec in afterwards(during, over)] == keys(during)
    asked = [AttackSpec(name="embedding_extension")]  # asked for by name it stays, and is refused by name
    assert afterwards(hidden, asked) == asked


def test_adaptive_takes_no_options():
    asked = config(attack=[{"name": "adaptive", "hints": 3}], defense=NOISED)
    for call in (adapted, check_members, prepare):
        with pytest.raises(ConfigError, match="allowed the name alone"):
            call(asked)


@pytest.mark.parametrize("name", names("defense"))
def test_every_declared_counter_attack_can_be_built(name):
    for spec in getattr(build("defense", name), "counters", ()):
        assert build("attack", spec).needs


def view(body, labels, rounds, noise_std, hinted) -> AdversaryView:
    stream = torch.Generator().manual_seed(0)
    rows = torch.arange(len(body))
    noised = [body + noise_std * torch.randn(*body.shape, generator=stream) for _ in range(rounds)]
    ends = (Kind.GRADIENT, "advertiser", "publisher")
    received = tuple(Envelope(step, *ends, rows, each) for step, each in enumerate(noised))
    return AdversaryView(("publisher",), 2, (), received, Hints(hinted, labels[hinted]))


@pytest.mark.parametrize("rounds", [1, 4, 16])
def test_noise_fades_with_the_root_of_the_rounds(rounds):
    """One coordinate at plus or minus 1 under N(0, s^2): the sign of the mean is right with Phi(sqrt(rounds) / s)."""
    stream, rows, noise_std = torch.Generator().manual_seed(1), 20_000, 4.0
    labels = (torch.rand(rows, generator=stream) < 0.5).long()
    body = (2.0 * labels.double() - 1.0)[:, None]
    guess = Averaging(hints=500).infer(view(body, labels, rounds, noise_std, torch.arange(500)), stream)
    right = ((guess.scores > 0) == (labels[guess.rows] == 1)).double().mean()
    assert right == pytest.approx(normal.cdf(rounds**0.5 / noise_std), abs=0.015)


def test_a_recorded_run_is_attacked_by_who_knows_its_defense(tmp_path):
    asked = config(defense=[{"name": "max_norm"}], attack=[{"name": "direction", "hints": 1}], train={"epochs": 6})
    row = simulate(asked, tmp_path / "run", ray_address=None, resume=None, progress=Silent())
    found = attack(tmp_path / "run", [{"name": "adaptive"}], asked, Silent())["leakage"]
    assert found["adaptive_averaging"]["sign_free"] > row["leakage"]["direction"]["sign_free"]
    with pytest.raises(UserError, match="no defense of this run declares one"):
        attack(tmp_path / "run", [{"name": "adaptive"}], config(), Silent())
