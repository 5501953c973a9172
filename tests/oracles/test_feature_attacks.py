"""Feature inference against closed forms: models whose inverse is known."""

from __future__ import annotations

import pytest
import torch

from vfl.attacks.attribute_inference import AttributeInference
from vfl.attacks.binary_reconstruction import BinaryReconstruction, hidden_bits
from vfl.attacks.decoder import Decoder
from vfl.attacks.equality_solving import solve
from vfl.attacks.generative_regression import GenerativeRegression
from vfl.attacks.membership import Membership
from vfl.attacks.model_inversion import ModelInversion
from vfl.attacks.unsplit_inversion import UnsplitInversion
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


def bits_view(h, numeric, known=50):
    """Embeddings of a publisher whose columns are `numeric`, as an advertiser that knows some rows has them."""
    rows = torch.arange(len(h))
    schema = TableSchema(tuple(f"n{place}" for place in range(numeric.shape[1])))
    none = torch.zeros(len(h), 0, dtype=torch.int64)
    fresh = torch.nn.Sequential(Flat(), torch.nn.Linear(numeric.shape[1], h.shape[1]))
    victim = Holding(Batch(rows[:known], numeric[:known], none[:known]), schema, fresh=fresh)
    sent = (Envelope(0, Kind.EMBEDDING, "p", "advertiser", rows, h),)
    return AdversaryView(("advertiser",), 2, (), sent, Hints(victims={"p": victim}))


class Flat(torch.nn.Module):
    """The numeric columns of a batch."""

    def forward(self, batch: Batch):
        return batch.numeric


def test_binary_columns_are_read_off_a_linear_bottom_and_not_off_a_bent_one():
    draw = stream()
    bits = (torch.rand(400, 5, generator=draw) < torch.tensor([0.5, 0.3, 0.1, 0.6, 0.2])).float()
    numeric = torch.cat([2 * bits - 0.7, torch.randn(400, 3, generator=draw)], dim=1)
    z = numeric @ torch.randn(8, 10, generator=draw) + torch.randn(10, generator=draw)
    found = BinaryReconstruction().infer(bits_view(z, numeric), draw)
    assert torch.allclose(found.scores[:, :5], numeric[50:, :5])
    assert nmse(found.scores[:, 5:], numeric[50:, 5:]) > 0.9
    bent = BinaryReconstruction().infer(bits_view(z.tanh(), numeric), draw)
    assert nmse(bent.scores, numeric[50:]) > 0.9


def test_the_search_for_bits_finds_every_binary_column_once():
    """With more columns than the search goes deep it finds nothing rather than something else."""
    draw = stream(1)
    bits = (torch.rand(200, 7, generator=draw) < 0.4).double()
    z = bits @ torch.randn(7, 7, generator=draw).double()
    found = hidden_bits(z, 12, 1e-3)
    for column in bits.T:
        same = (found == column[:, None]).all(dim=0) | (found == 1 - column[:, None]).all(dim=0)
        assert int(same.sum()) == 1
    assert hidden_bits(z, 5, 1e-3).shape[1] == 0


def test_unsplit_inversion_fails_on_a_dense_first_layer():
    """The misfit can be driven to 0 by wrong inputs, so a good guess here would be a peek."""
    draw = stream(2)
    numeric = torch.randn(300, 4, generator=draw)
    z = numeric @ torch.randn(4, 8, generator=draw)
    guess = UnsplitInversion(rows=150).infer(bits_view(z, numeric, known=1), draw)
    assert nmse(guess.scores, numeric[guess.rows]) > 0.6


def test_generative_regression_reads_columns_through_scores_and_correlation():
    draw, rows = stream(3), torch.arange(1200)
    own = torch.randn(1200, 2, generator=draw)
    numeric = torch.stack([own[:, 0] + 0.2 * torch.randn(1200, generator=draw), torch.randn(1200, generator=draw)], 1)
    none = torch.zeros(1200, 0, dtype=torch.int64)
    weight, mine = torch.tensor([[2.0], [0.0]]), torch.tensor([[0.5], [-0.5]])
    bottoms = [torch.nn.Sequential(Flat(), torch.nn.Linear(2, 1, bias=False)) for _ in range(2)]
    for bottom, value in zip(bottoms, (weight, mine), strict=True):
        bottom[1].weight.data = value.T
    top = torch.nn.Linear(2, 1, bias=False)
    top.weight.data = torch.ones(1, 2)
    chance = (numeric @ weight + own @ mine).sigmoid()
    scores = (Envelope(0, Kind.SCORE, "advertiser", "referee", rows, torch.cat([1 - chance, chance], dim=1)),)
    schema = TableSchema(("a", "b"))
    victim = Holding(Batch(rows[:0], numeric[:0], none[:0]), schema, bottoms[0])
    held = {"advertiser": Holding(Batch(rows, own, none), schema, bottoms[1], top=top)}
    view = AdversaryView(("advertiser",), 2, scores, (), Hints(victims={"p": victim}), own=held)
    guess = GenerativeRegression(steps=800).infer(view, draw)
    assert nmse(guess.scores[:, 0], numeric[:, 0]) < 0.5
    assert nmse(guess.scores[:, 1], numeric[:, 1]) > 0.9
