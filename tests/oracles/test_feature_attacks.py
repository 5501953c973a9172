"""Feature inference against closed forms: models whose inverse is known."""

from __future__ import annotations

import pytest
import torch

from vfl.attacks.attribute_inference import AttributeInference
from vfl.attacks.decoder import Decoder
from vfl.attacks.equality_solving import solve
from vfl.attacks.membership import Membership
from vfl.attacks.model_inversion import ModelInversion
from vfl.transcript import AdversaryView, Hints, Holding
from vfl.types import Batch, Envelope, Kind, TableSchema

ROWS, COLUMNS = 1500, 4


class Linear(torch.nn.Module):
    """A bottom of one matrix on the numeric columns and one vector an id."""

    def __init__(self, weight, ids) -> None:
        super().__init__()
        self.weight, self.ids = weight, ids

    def forward(self, batch: Batch):
        return batch.numeric @ self.weight + self.ids[batch.categorical[:, 0]]


def stream(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def case(width=8, known=300, noise=0.0, seed=0):
    """A publisher's table, and the view of an advertiser that received its embeddings."""
    draw = stream(seed)
    numeric = torch.randn(ROWS, COLUMNS, generator=draw)
    ids = torch.randint(0, 4, (ROWS, 1), generator=draw)
    bottom = Linear(torch.randn(COLUMNS, width, generator=draw), 2 * torch.randn(4, width, generator=draw))
    rows = torch.arange(ROWS)
    h = bottom(Batch(rows, numeric, ids)) + noise * torch.randn(ROWS, width, generator=draw)
    schema = TableSchema(tuple("abcd"), ("colour",), (4,))
    victim = Holding(Batch(rows[:known], numeric[:known], ids[:known]), schema, bottom)
    own = Holding(Batch(rows, torch.randn(ROWS, 3, generator=draw), ids[:, :0]), TableSchema(tuple("xyz")))
    sent = tuple(
        Envelope(s, Kind.EMBEDDING, "p", "advertiser", part, h[part]) for s, part in enumerate(rows.split(500))
    )
    view = AdversaryView(("advertiser",), 2, (), sent, Hints(victims={"p": victim}), own={"advertiser": own})
    return view, numeric, ids[:, 0]


def nmse(found, true) -> float:
    return float(((found - true) ** 2).mean() / true.var())


@pytest.mark.parametrize(
    ("classes", "columns", "exact"), [(11, 5, True), (11, 10, True), (11, 11, False), (2, 1, True)]
)
def test_equality_solving_is_exact_up_to_one_column_less_than_classes(classes, columns, exact):
    draw = stream()
    logits = 1 if classes == 2 else classes
    slope = torch.randn(columns, logits, generator=draw, dtype=torch.float64)
    known = torch.randn(200, logits, generator=draw, dtype=torch.float64)
    x = torch.rand(200, columns, generator=draw, dtype=torch.float64)
    z = x @ slope + known
    probabilities = torch.cat([1 - z.sigmoid(), z.sigmoid()], dim=1) if logits == 1 else z.softmax(dim=1)
    error = (solve(probabilities, slope, known) - x).square().mean()
    assert error < 1e-16 if exact else error > 1e-4


def test_equality_solving_breaks_when_scores_are_rounded():
    draw = stream()
    slope = 3 * torch.randn(10, 11, generator=draw, dtype=torch.float64)
    x = torch.rand(200, 10, generator=draw, dtype=torch.float64)
    rounded = ((x @ slope).softmax(dim=1) * 1000).round() / 1000
    assert (solve(rounded, slope, torch.zeros(200, 11, dtype=torch.float64)) - x).square().mean() > 0.01


def test_decoder_inverts_a_linear_map_and_its_control_knows_nothing():
    view, numeric, _ = case()
    guess = Decoder(300).infer(view, stream())
    assert guess.party == "p"
    assert len(guess.rows) == ROWS - 300
    assert nmse(guess.scores, numeric[guess.rows]) < 0.05
    assert nmse(guess.controls["own_columns"], numeric[guess.rows]) > 0.9


def test_decoder_finds_nothing_in_drowned_embeddings():
    view, numeric, _ = case(noise=100.0)
    guess = Decoder(300, steps=200).infer(view, stream())
    assert nmse(guess.scores, numeric[guess.rows]) > 0.9


def test_attribute_inference_reads_an_id_that_the_advertisers_columns_do_not_tell():
    view, _, ids = case()
    guess = AttributeInference(known_rows=300).infer(view, stream())
    assert guess.columns == ("colour",)
    assert (guess.scores.argmax(dim=1) == ids[guess.rows]).double().mean() > 0.9
    assert (guess.controls["own_columns"].argmax(dim=1) == ids[guess.rows]).double().mean() < 0.35


@pytest.mark.parametrize(("access", "bound"), [("white_box", 0.3), ("black_box", 0.2)])
def test_model_inversion_inverts_a_network_wider_than_its_columns(access, bound):
    view, numeric, _ = case(known=0)
    guess = ModelInversion(access, rows=200, steps=1000).infer(view, stream())
    assert nmse(guess.scores, numeric[guess.rows]) < bound


def test_model_inversion_is_exact_on_the_rows_whose_id_it_found():
    view, numeric, _ = case(known=0)
    guess = ModelInversion(rows=200, steps=1000).infer(view, stream())
    error = (guess.scores - numeric[guess.rows]).abs().max(dim=1).values
    assert (error < 0.01).double().mean() > 0.8


def test_model_inversion_cannot_invert_what_a_narrow_cut_has_lost():
    view, numeric, _ = case(width=1, known=0)
    guess = ModelInversion(rows=200, steps=300).infer(view, stream())
    assert nmse(guess.scores, numeric[guess.rows]) > 0.5


def test_membership_lengths_are_those_of_mahalanobis():
    draw = stream()
    mix = torch.randn(COLUMNS, COLUMNS, generator=draw, dtype=torch.float64)
    numeric = (torch.randn(ROWS, COLUMNS, generator=draw, dtype=torch.float64) @ mix).float()
    ids = torch.zeros(ROWS, 1, dtype=torch.int64)
    bottom = Linear(torch.eye(COLUMNS), torch.zeros(4, COLUMNS))
    own = Holding(Batch(torch.arange(ROWS), numeric, ids), TableSchema(tuple("abcd"), ("colour",), (4,)), bottom)
    guess = Membership().infer(AdversaryView(("p",), 2, (), (), own={"p": own}), stream())
    centred = numeric.double() - numeric.double().mean(dim=0)
    inverse = torch.linalg.inv(torch.cov(centred.T, correction=0))
    assert torch.allclose(guess.scores, torch.einsum("ij,jk,ik->i", centred, inverse, centred), rtol=1e-3)
