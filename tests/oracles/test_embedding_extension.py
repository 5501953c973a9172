"""A decoy in the embedding: what distance correlation sees of it, and what the rest still tells."""

from __future__ import annotations

import pytest
import torch
from harness import config, train
from torch import nn

from vfl.attacks.embedding_extension import EmbeddingExtension
from vfl.defenses.dcor import distance_correlation
from vfl.seeds import Seeds
from vfl.store import load_view
from vfl.transcript import AdversaryView, Hints, Holding
from vfl.types import Batch, Kind, TableSchema

WIDTH, ROWS = 8, 400


class Linear(nn.Module):
    """A bottom that is one matrix on the numeric columns."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0)))

    def forward(self, batch: Batch) -> torch.Tensor:
        return batch.numeric @ self.weight


def told() -> tuple[Batch, torch.Tensor]:
    """Rows whose every column is the label and a little noise."""
    stream = torch.Generator().manual_seed(1)
    labels = (torch.rand(ROWS, generator=stream) < 0.5).long()
    numeric = labels[:, None] + 0.3 * torch.randn(ROWS, WIDTH, generator=stream)
    return Batch(torch.arange(ROWS), numeric, torch.zeros(ROWS, 0, dtype=torch.int64)), labels


def test_the_free_coordinates_are_sent_as_they_are_and_a_row_always_has_the_same_decoy():
    batch, _ = told()
    honest, bottom = Linear(), EmbeddingExtension(share=0.25).wrap(Linear(), Seeds(0))
    sent = bottom(batch)
    assert torch.equal(sent[:, :6], honest(batch)[:, :6])
    assert float(sent[:, 6:].detach().std()) == pytest.approx(10.0, rel=0.1)
    some = torch.tensor([7, 3])
    again = bottom(Batch(some, torch.zeros(2, WIDTH), torch.zeros(2, 0, dtype=torch.int64)))
    assert torch.equal(again[:, 6:], sent[some, 6:])
    sent.sum().backward()
    assert not bottom.weight.grad[:, 6:].any()
    assert bottom.weight.grad[:, :6].all()


def test_distance_correlation_sees_the_decoy_and_not_the_label():
    batch, labels = told()
    truth = nn.functional.one_hot(labels, 2).float()
    bottoms = Linear(), EmbeddingExtension().wrap(Linear(), Seeds(0))
    honest, extended = (float(distance_correlation(bottom(batch).detach(), truth)) for bottom in bottoms)
    assert honest > 0.8
    assert extended < 0.3


def test_it_reads_the_label_in_what_is_no_decoy():
    batch, labels = told()
    hints = Hints(torch.arange(40), labels[:40])
    own = {"publisher": Holding(batch, TableSchema(tuple(map(str, range(WIDTH)))), Linear(), Linear())}
    view = AdversaryView(("publisher",), 2, (), (), hints, own=own)
    guess = EmbeddingExtension().infer(view, torch.Generator().manual_seed(0))
    assert torch.equal(guess.rows, torch.arange(40, ROWS))
    assert (guess.scores.argmax(dim=1) == labels[40:]).double().mean() > 0.95


def test_a_run_sends_the_decoy(tmp_path):
    asked = config(
        model={"bottom": "mlp", "top": "linear", "embedding_dim": 8},
        attack=[{"name": "embedding_extension", "labelled_rows": 10}],
        threat={"adversaries": ["publisher"], "hints": {"labelled_rows": 10}},
        defense=[{"name": "dcor", "protects": "labels", "weight": 1.0}],
    )
    train(asked, tmp_path)
    view = load_view([tmp_path / "parties" / "publisher" / "transcript"], ("publisher",), 2)
    sent = torch.cat([each.body for each in view.sent if each.kind == Kind.EMBEDDING])
    assert sent[:, 4:].std() == pytest.approx(10.0, rel=0.2)
    assert sent[:, :4].std() < 5


@pytest.mark.parametrize(
    "wrong", [{"share": 0.0}, {"share": 1.0}, {"decoy_std": 0.0}, {"labelled_rows": 1}, {"steps": 0}]
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EmbeddingExtension(**wrong)
