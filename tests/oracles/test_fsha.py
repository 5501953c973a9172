"""Feature-space hijacking: what it sends by differences, what it pulls where, and dense bottoms that resist it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from harness import config, train
from torch import Tensor, nn

from experiments.leakage import Target, attack_all
from experiments.plan import open_world, party_specs
from experiments.progress import Silent
from parties.isolate import Isolation
from parties.panel import known_handles, panel
from parties.settle import settled
from vfl import checkpoint
from vfl.attacks.fsha import Fsha
from vfl.defenses import ReceiveContext, SendContext, State
from vfl.errors import ThreatError
from vfl.holding import load_table
from vfl.seeds import Seeds
from vfl.transcript import AdversaryView, Hints, Holding
from vfl.types import Batch, Envelope, Kind, TableSchema

ROWS, KNOWN, WIDTH = 2000, 300, 3
NO_IDS = torch.zeros(ROWS, 0, dtype=torch.int64)
SPLIT = {"name": "columns", "publisher": ["mean_radius", "mean_texture", "mean_area"], "advertiser": ["texture_error"]}


def table(values: Tensor, rows: Tensor) -> Batch:
    return Batch(rows, values[rows], NO_IDS[rows])


def receive(attack: Fsha, state: State, came: Tensor, known: Batch | None, *, learning: bool = True) -> State:
    stream = torch.Generator().manual_seed(0)
    envelope = Envelope(0, Kind.EMBEDDING, "publisher", "advertiser", torch.arange(len(came)), came)
    return attack.inspect(came, state, ReceiveContext(envelope, learning, stream, 2, known=known))[1]


def send(attack: Fsha, state: State, honest: Tensor, *, learning: bool = True) -> Tensor:
    ctx = SendContext(0, torch.Generator().manual_seed(0), None, 2, rows=torch.arange(len(honest)), learning=learning)
    return attack.apply(honest, state, ctx)[0]


def net(name: str, state: State, inputs: np.ndarray) -> np.ndarray:
    parts = [state[f"{name}.{part}"].double().numpy() for part in ("weight0", "bias0", "weight1", "bias1")]
    return np.maximum(inputs @ parts[0] + parts[1], 0) @ parts[2] + parts[3]


def test_what_is_sent_is_the_slope_of_the_critics_doubt_and_holds_no_label():
    attack, values = Fsha(), torch.randn(ROWS, 2)
    came = torch.randn(5, WIDTH)
    state = receive(attack, {}, came, table(values, torch.arange(KNOWN)))
    sent = send(attack, state, torch.randn(5, WIDTH))
    assert torch.equal(sent, send(attack, state, -100 * torch.ones(5, WIDTH)))
    h, slope = came.double().numpy(), np.zeros((5, WIDTH))
    for place in np.ndindex(5, WIDTH):
        step = np.zeros_like(h)
        step[place] = 1e-6
        slope[place] = -(net("critic", state, h + step).mean() - net("critic", state, h - step).mean()) / 2e-6
    assert sent.numpy() == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_it_keeps_to_the_protocol_outside_training_and_without_rows_that_it_knows():
    attack, honest = Fsha(), torch.randn(5, WIDTH)
    known = table(torch.randn(ROWS, 2), torch.arange(KNOWN))
    assert receive(attack, {}, honest, None) == {}
    assert receive(attack, {}, honest, table(torch.zeros(ROWS, 0), torch.arange(KNOWN))) == {}  # no numeric column
    assert receive(attack, {}, honest, known, learning=False) == {}
    state = receive(attack, {}, honest, known)
    assert torch.equal(send(attack, state, honest, learning=False), honest)
    assert torch.equal(send(attack, {}, honest), honest)


def hijacked(values: Tensor, attack: Fsha, rounds: int, bottom: nn.Module) -> tuple[State, tuple[Envelope, ...]]:
    """Play a publisher with this bottom under attack; return the attacker's state and what it sent."""
    optimizer = torch.optim.Adam(bottom.parameters(), lr=3e-3)
    known, state, sent = table(values, torch.arange(KNOWN)), dict[str, Tensor](), list[Envelope]()
    stream = torch.Generator().manual_seed(1)
    for step in range(rounds):
        rows = torch.randint(0, ROWS, (64,), generator=stream)
        h = bottom(values[rows])
        state = receive(attack, state, h.detach(), known)
        pull = send(attack, state, torch.zeros_like(h))
        sent.append(Envelope(step, Kind.GRADIENT, "advertiser", "publisher", rows, pull))
        optimizer.zero_grad()
        h.backward(pull)
        optimizer.step()
    return state, tuple(sent)


def dense(inputs: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, WIDTH))


def skewed(columns: int) -> Tensor:
    return -torch.rand(ROWS, columns, generator=torch.Generator().manual_seed(2)).log() - 1


def energy(left: np.ndarray, right: np.ndarray) -> float:
    """The energy distance between two samples: 0 in expectation where their laws are the same."""
    between, own, other = (
        np.linalg.norm(first[:, None] - second[None], axis=2).mean()
        for first, second in ((left, right), (left, left), (right, right))
    )
    return float(2 * between - own - other)


def test_the_publishers_embeddings_are_pulled_to_the_law_of_the_pilots_and_skewed_columns_are_read():
    values, bottom = skewed(2), dense(2)
    honest = bottom(values[:400]).detach().numpy()
    state, _ = hijacked(values, Fsha(known_rows=KNOWN), 300, bottom)
    sent = bottom(values).detach().numpy()
    wanted = net("pilot", state, values[400:800].numpy())
    assert energy(sent[:400], wanted) < 0.5 * energy(honest, wanted)
    assert np.square(net("inverse", state, sent) - values.numpy()).mean() < 0.6 * float(values.var())


def test_a_publisher_that_embeds_as_the_pilot_does_is_read():
    """After the run the attacker fits pilot and inverse again: they are those of the run, or this would be noise."""
    attack, values = Fsha(known_rows=KNOWN), skewed(2)
    state, sent = hijacked(values, attack, 300, dense(2))
    body = torch.from_numpy(net("pilot", state, values.numpy())).float()
    last = Envelope(300, Kind.EMBEDDING, "publisher", "advertiser", torch.arange(ROWS), body)
    known = Holding(table(values, torch.arange(KNOWN)), TableSchema(("a", "b")))
    view = AdversaryView(("advertiser",), 2, sent=sent, received=(last,), hints=Hints(victims={"publisher": known}))
    guess = attack.infer(view, torch.Generator().manual_seed(0))
    assert torch.equal(guess.rows, torch.arange(KNOWN, ROWS))
    true = values[guess.rows]
    assert float((guess.scores - true).square().mean() / true.var()) < 0.05


def test_in_a_run_it_knows_the_rows_that_the_referee_grants_and_a_dense_bottom_resists(tmp_path):
    entry = {"name": "fsha", "known_rows": 60}
    threat = {"adversaries": ["advertiser"], "hints": {"labelled_rows": 0, "known_rows": 60}}
    training = {"epochs": 12, "batch_size": 32, "lr": 0.01}
    asked = config(split=SPLIT, train=training, attack=[entry], threat=threat, align={"overlap": 0.8})
    world = open_world(asked)
    train(asked, tmp_path)
    spec = next(each for each in party_specs(asked, world, tmp_path) if each.party == "advertiser")
    batch, _, _ = load_table(tmp_path / "parties" / "publisher" / "own.safetensors")
    tensors, _ = checkpoint.load(tmp_path / "referee" / "order.safetensors")
    found = settled(tensors["order"], spec.shard)
    known = panel(spec.panel, found.ids, found.sizes[0])
    assert len(known.rows) == 60
    assert torch.equal(known.numeric, batch.numeric[known.rows])
    with Isolation() as isolation:
        figures = attack_all(Target(asked, world, tmp_path), asked.attack, isolation, Silent())["fsha"]
    assert figures["nmse"] > 0.5
    grant = known_handles(found.sizes[0], 60, Seeds(asked.seed).scope("hints"))
    assert torch.equal(known.rows, grant)


def test_nobody_else_is_handed_the_rows_and_own_files_are_refused(tmp_path):
    asked = config(split=SPLIT, attack=["norm"])
    assert all(spec.panel is None for spec in party_specs(asked, open_world(asked), tmp_path))
    threat = {"adversaries": ["advertiser"], "hints": {"labelled_rows": 0, "known_rows": 500}}
    hijack = config(split=SPLIT, attack=["fsha"], threat=threat)
    specs = party_specs(hijack, open_world(hijack), tmp_path)
    assert [spec.party for spec in specs if spec.panel] == ["advertiser"]
    keyed = replace(open_world(hijack), keyed=True)
    with pytest.raises(ThreatError, match="built-in set"):
        party_specs(hijack, keyed, tmp_path)


@pytest.mark.parametrize("wrong", [{"known_rows": 1}, {"lr": 0.0}, {"lr": float("nan")}, {"smoothness": -1.0}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Fsha(**wrong)
