"""The norm and direction attacks against slow obvious twins, and against gradients whose leak is known."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from vfl.attacks.direction import Direction
from vfl.attacks.norm import Norm
from vfl.transcript import AdversaryView, Hints
from vfl.types import Envelope, Kind


def view(batches, hints=(), labels=()) -> AdversaryView:
    """A publisher's view of `(step, rows, body)` gradients."""
    received = tuple(
        Envelope(step, Kind.GRADIENT, "advertiser", "publisher_1", torch.as_tensor(rows), torch.as_tensor(body))
        for step, rows, body in batches
    )
    known = Hints(torch.tensor(hints, dtype=torch.int64), torch.tensor(labels, dtype=torch.int64))
    return AdversaryView(("publisher_1",), 2, (), received, known)


def scores(attack, seen) -> dict[tuple[int, int], float]:
    guess = attack.infer(seen, torch.Generator())
    keys = zip(guess.steps.tolist(), guess.rows.tolist(), strict=True)
    return dict(zip(keys, guess.scores.tolist(), strict=True))


def random_batches(seed, population=40, size=8, epochs=3, dim=4, gap=3):
    stream = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(epochs):
        for rows in torch.randperm(population, generator=stream).split(size)[:-1]:
            found.append((gap * len(found), rows, torch.randn(size, dim, generator=stream)))
    return found


def one_line_batches(base_rate, certainty, steps=20, size=256, dim=8, seed=0):
    """Gradients of a linear top, (p - y) w, for predictions around `certainty`; returns them with labels by handle."""
    stream = torch.Generator().manual_seed(seed)
    labels = (torch.rand(steps * size, generator=stream) < base_rate).long()
    predicted = (certainty + 0.02 * torch.randn(steps * size, generator=stream)).clamp(0.001, 0.999)
    weight = torch.randn(dim, generator=stream)
    body = (predicted - labels)[:, None] * weight / size
    rows = torch.randperm(steps * size, generator=stream)
    return [(step, part, body[part]) for step, part in enumerate(rows.split(size))], labels


def leak(attack, seen, labels) -> float:
    guess = attack.infer(seen, torch.Generator())
    batches = [guess.steps == step for step in guess.steps.unique()]
    return float(torch.tensor([roc_auc_score(labels[guess.rows[b]], guess.scores[b]) for b in batches]).mean())


def slow_cosine(left, right):
    norms = math.sqrt(sum(x * x for x in left)) * math.sqrt(sum(x * x for x in right))
    return sum(x * y for x, y in zip(left, right, strict=True)) / norms if norms else 0.0


def slow_direction(batches, known) -> dict[tuple[int, int], float]:
    """The docstring, word by word: every known row's nearest gradient, the earlier of two as near."""
    answer = {}
    for step, rows, body in batches:
        references = []
        for row, label in known.items():
            shown = [(abs(at - step), at, list(of).index(row), b) for at, of, b in lists(batches) if row in of]
            shown = [case for case in shown if any(case[3][case[2]])]
            if shown:
                _, _, place, gradients = min(shown, key=lambda case: case[:2])
                references.append((1 if label == 1 else -1, gradients[place]))
        for row, gradient in zip(rows.tolist(), body.tolist(), strict=True):
            total = sum(sign * slow_cosine(gradient, other) for sign, other in references)
            answer[step, row] = total / max(len(references), 1)
    return answer


def lists(batches):
    return [(step, rows.tolist(), body.tolist()) for step, rows, body in batches]


def test_norm_is_each_rows_length():
    batches = random_batches(0)
    expected = {
        (step, row): math.sqrt(sum(x * x for x in gradient))
        for step, rows, body in lists(batches)
        for row, gradient in zip(rows, body, strict=True)
    }
    assert scores(Norm(), view(batches)) == pytest.approx(expected, rel=1e-6)
    assert scores(Norm("majority"), view(batches)) == pytest.approx({k: -v for k, v in expected.items()}, rel=1e-6)


def test_norm_leaves_hinted_rows_out():
    batches = random_batches(0)
    assert {row for _, row in scores(Norm(), view(batches, [3, 5], [0, 1]))} == set(range(40)) - {3, 5}


def test_norm_keeps_tiny_gradients_apart():
    body = torch.tensor([[1e-25, 0.0], [3e-25, 0.0], [2e-25, 0.0]])
    found = scores(Norm(), view([(0, torch.arange(3), body)]))
    assert sorted(found, key=lambda key: found[key]) == [(0, 0), (0, 2), (0, 1)]


@pytest.mark.parametrize(("hints", "granted"), [(1, 1), (3, 3), (6, 6), (2, 6)])
def test_direction_is_the_mean_signed_cosine_with_the_nearest_references(hints, granted):
    batches = random_batches(hints)
    batches[0][2][2] = 0.0
    rows, labels = [7, 30, 4, 12, 21, 9][:granted], [1, 0, 0, 1, 1, 0][:granted]
    used = dict(zip(rows[:hints], labels[:hints], strict=True))
    expected = {key: value for key, value in slow_direction(batches, used).items() if key[1] not in rows}
    found = scores(Direction(hints), view(batches, rows, labels))
    assert found == pytest.approx(expected, abs=1e-9)


def test_direction_takes_the_earlier_of_two_as_near():
    east, north = [1.0, 0.0], [0.0, 1.0]
    batches = [(0, [0], [east]), (1, [1], [[2.0, 2.0]]), (2, [2], [[3.0, 0.1]]), (4, [0], [north])]
    found = scores(Direction(), view(batches, [0], [0]))
    assert found[1, 1] == pytest.approx(-math.sqrt(0.5))
    assert found[2, 2] == pytest.approx(-1, abs=1e-3)


def test_direction_with_all_labels_scores_each_half_by_the_other():
    batches = random_batches(9)
    labels = [int(row % 3 == 0) for row in range(40)]
    halves = [
        slow_direction(batches, {row: labels[row] for row in range(40) if row % 2 == parity and row in shown(batches)})
        for parity in (0, 1)
    ]
    expected = {key: halves[1 - key[1] % 2][key] for key in halves[0]}
    assert scores(Direction(), view(batches, list(range(40)), labels)) == pytest.approx(expected, abs=1e-9)


def shown(batches) -> set[int]:
    return {row for _, rows, _ in lists(batches) for row in rows}


def test_direction_without_any_reference_is_silent():
    assert set(scores(Direction(), view(random_batches(1), [99], [1])).values()) == {0.0}


def test_direction_scores_a_zero_gradient_zero():
    batches = [(0, [0, 1, 2], [[1.0, 1.0], [0.0, 0.0], [-1.0, -1.0]])]
    assert scores(Direction(), view(batches, [0], [1])) == pytest.approx({(0, 1): 0.0, (0, 2): -1.0})


def test_both_read_everything_from_a_rare_class_on_one_line():
    batches, labels = one_line_batches(base_rate=0.05, certainty=0.05)
    known = labels.nonzero()[0].tolist()
    assert leak(Norm(), view(batches), labels) > 0.999
    assert leak(Direction(), view(batches, known, [1]), labels) > 0.999
    assert leak(Direction(), view(batches, [labels.argmin().item()], [0]), labels) > 0.999


def test_balanced_classes_hide_from_lengths_but_not_from_directions():
    batches, labels = one_line_batches(base_rate=0.5, certainty=0.5)
    assert leak(Norm(), view(batches), labels) == pytest.approx(0.5, abs=0.03)
    assert leak(Direction(), view(batches, labels.nonzero()[0].tolist(), [1]), labels) > 0.999


def test_all_labels_do_not_bias_the_score_where_nothing_leaks():
    """Signs at random on one line: scores tie, and leaving out only one's own label would rank the ties by it."""
    stream = torch.Generator().manual_seed(4)
    found = []
    for _ in range(60):
        labels = (torch.rand(512, generator=stream) < 0.2).long()
        signs = 2.0 * (torch.rand(512, 1, generator=stream) < 0.5) - 1
        batches = [(0, torch.arange(512), signs * torch.ones(512, 4))]
        found.append(leak(Direction(), view(batches, list(range(512)), labels.tolist()), labels))
    assert torch.tensor(found).mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("attack", [Norm(), Direction()])
def test_empty_view_gives_an_empty_guess(attack):
    guess = attack.infer(view([]), torch.Generator())
    assert guess.steps.shape == guess.rows.shape == guess.scores.shape == (0,)


def test_needs_and_options():
    assert Norm().needs.labelled_rows == 0
    assert Direction(4).needs.labelled_rows == 4
    assert Direction().needs.received == Norm().needs.received == frozenset({Kind.GRADIENT})
    with pytest.raises(ValueError, match="got 0, allowed"):
        Direction(0)
    with pytest.raises(ValueError, match="got 'few', allowed"):
        Norm("few")
