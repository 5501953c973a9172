"""What every registered attack promises, whatever it does."""

from __future__ import annotations

import dataclasses
import operator
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.members import ATTACKS, LOGIT_WIDE, NUMERIC_ONLY, cases, label
from vfl.access import undeclared, watched
from vfl.attacks import Attack, Guess, Needs
from vfl.defenses import Guard, ReceiveContext, SendContext, State, Wrap
from vfl.registry import build, names
from vfl.seeds import Seeds
from vfl.transcript import AdversaryView, Hints, Holding
from vfl.types import Batch, Envelope, Kind, TableSchema

STEPS, BATCH, DIM, COLUMNS, POPULATION = 60, 64, 8, 4, 960
SIDES = (("publisher_1", "advertiser"), ("advertiser", "publisher_1"))


def test_every_member_has_a_row():
    assert sorted(ATTACKS) == names("attack")


@pytest.fixture(params=cases(ATTACKS), ids=label)
def attack(request) -> Attack:
    spec: dict[str, Any] = request.param
    return build("attack", spec)


def truth() -> Tensor:
    """Labels by row handle, drawn apart from every envelope."""
    return (torch.rand(POPULATION, generator=torch.Generator().manual_seed(99)) < 0.2).long()


class Flat(torch.nn.Module):
    """A linear bottom on the numeric columns."""

    def __init__(self, width: int, stream: torch.Generator) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(COLUMNS, width, generator=stream))

    def forward(self, batch: Batch) -> Tensor:
        return batch.numeric @ self.weight


class Added(torch.nn.Module):
    """A top with one bias and no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, h: Tensor) -> Tensor:
        return h.sum(dim=1, keepdim=True) + self.bias


def columns(seed: int) -> tuple[Tensor, Tensor]:
    """The columns of noise that a party under attack holds in the view of a seed: numbers, and one of four ids."""
    stream = torch.Generator().manual_seed(1000 + seed)
    numbers = torch.randn(POPULATION, COLUMNS, generator=stream)
    return numbers, torch.randint(2, 6, (POPULATION, 1), generator=stream)


def holding(
    stream: torch.Generator, rows: Tensor, seed: int, *, width: int, models: bool, colours: bool = True
) -> Holding:
    """Rows of the columns of a seed, and networks of random weights."""
    numeric, categorical = columns(seed)
    names = tuple(f"n{place}" for place in range(COLUMNS))
    bottom, fresh = Flat(width, stream), Flat(width, stream)
    return Holding(
        Batch(rows, numeric[rows], categorical[rows, : int(colours)]),
        TableSchema(names, ("colour",), (6,)) if colours else TableSchema(names),
        bottom if models else None,
        fresh,
        Added() if models else None,
    )


def noise_view(attack: Attack, seed: int = 0) -> AdversaryView:
    """A view of several epochs in which every body and column is noise, with the hints that the attack asks for."""
    stream = torch.Generator().manual_seed(seed)
    needs, everyone = attack.needs, torch.arange(POPULATION)
    looks, other = SIDES[needs.known_rows > 0 or needs.victim_models]
    name = type(attack).__module__.rpartition(".")[2]
    width = 1 if name in LOGIT_WIDE else DIM
    per_epoch = POPULATION // BATCH
    orders = [torch.randperm(POPULATION, generator=stream) for _ in range(STEPS // per_epoch)]
    batches = torch.cat(orders).split(BATCH)

    def body(kind: Kind, rows: int) -> Tensor:
        noise = torch.randn(rows, 2 if kind == Kind.SCORE else width, generator=stream)
        return noise.softmax(dim=1) if kind == Kind.SCORE else noise

    def envelopes(kinds: frozenset[Kind], src: str, dst: str) -> tuple[Envelope, ...]:
        if Kind.PSI in kinds:  # an alignment's announcement: places, and pools that nothing was trained by
            places, pools = (
                torch.randperm(POPULATION, generator=stream),
                torch.randint(2, (POPULATION,), generator=stream),
            )
            told = torch.stack([places, pools], dim=1)
            return (Envelope(0, Kind.PSI, src, dst, everyone[:0], told),)
        return tuple(
            Envelope(3 * step, kind, src, dst, rows, body(kind, len(rows)))
            for step, rows in enumerate(batches)
            for kind in sorted(kinds)
        )

    hinted = torch.randperm(POPULATION, generator=stream)[: needs.labelled_rows]
    scored = everyone[POPULATION // 2 :]
    known = torch.randperm(POPULATION, generator=stream)[: needs.known_rows].sort().values
    models, colours = needs.victim_models, name not in NUMERIC_ONLY
    victims = {other: holding(stream, known, seed, width=width, models=models, colours=colours)}
    chances = torch.rand(len(scored), 2, generator=stream)
    hints = Hints(
        hinted,
        truth()[hinted],
        prior=torch.tensor([0.8, 0.2], dtype=torch.float64) if needs.prior else None,
        score_rows=scored if needs.scores else everyone[:0],
        scores=chances / chances.sum(dim=1, keepdim=True) if needs.scores else chances[:0],
        victims=victims if needs.known_rows or needs.victim_models else {},
    )
    own = {looks: holding(stream, everyone, -1 - seed, width=width, models=needs.own_models)}
    return AdversaryView(
        parties=(looks,),
        classes=2,
        sent=envelopes(needs.sent, looks, other),
        received=envelopes(needs.received, other, looks),
        hints=hints,
        own=own if needs.own_features or needs.own_models else {},
    )


def infer(attack: Attack, view: AdversaryView, seed: int = 3) -> Guess:
    return attack.infer(view, torch.Generator().manual_seed(seed))


def pair_ids(steps: Tensor, rows: Tensor) -> set[tuple[int, int]]:
    return set(zip(steps.tolist(), rows.tolist(), strict=True))


def test_guess_is_well_formed(attack):
    guess = infer(attack, noise_view(attack))
    assert guess.steps.shape == guess.rows.shape == guess.scores.shape[:1]
    assert len(guess.rows) > 0
    assert torch.isfinite(guess.scores).all()
    assert guess.steps.dtype == guess.rows.dtype == torch.int64


def test_scores_only_entries_it_was_given(attack):
    """An opinion on an entry is on one it saw; an opinion on a row (all steps 0) is on an aligned row."""
    view = noise_view(attack)
    given = set[tuple[int, int]]()
    for envelope in (*view.sent, *view.received):
        given |= {(envelope.step, row) for row in envelope.rows.tolist()}
    guess = infer(attack, view)
    if not guess.steps.any():
        given = {(0, row) for row in range(POPULATION)}
        assert len(guess.rows.unique()) == len(guess.rows)
    assert pair_ids(guess.steps, guess.rows) <= given


def test_never_scores_a_row_it_knows_the_answer_of(attack):
    view = noise_view(attack)
    extra = torch.arange(10)
    wider = dataclasses.replace(view, hints=dataclasses.replace(view.hints, rows=extra, labels=truth()[extra]))
    for each in (view, wider) if attack.needs.labelled_rows < 2 else (view,):
        guess = infer(attack, each)
        if guess.target == "labels":
            assert not torch.isin(guess.rows, each.hints.rows).any()
        if guess.party in each.hints.victims:
            assert not torch.isin(guess.rows, each.hints.victims[guess.party].batch.rows).any()


def test_reads_what_it_declared_and_nothing_else_of_a_view_that_holds_all(attack):
    log = set[str]()
    infer(attack, watched(generous(attack), log))
    assert undeclared(log, attack.needs) == []
    assert log  # an attack that reads nothing would pass anything


def generous(attack: Attack) -> AdversaryView:
    """The view of an attack with all that it did not ask for: every kind, labels, prior, scores, tables, networks."""
    view, needs = noise_view(attack), attack.needs
    stream, everyone = torch.Generator().manual_seed(5), torch.arange(POPULATION)
    looks, other = SIDES[needs.known_rows > 0 or needs.victim_models]

    def more(kinds: frozenset[Kind], src: str, dst: str) -> tuple[Envelope, ...]:
        others = [kind for kind in Kind if kind not in kinds]
        return tuple(Envelope(0, kind, src, dst, everyone, torch.randn(POPULATION, 2)) for kind in others)

    hints = view.hints
    shown = holding(stream, everyone[:100], 0, width=DIM, models=True)
    wider = dataclasses.replace(
        hints,
        rows=hints.rows if len(hints.rows) else everyone[:50],
        labels=hints.labels if len(hints.rows) else truth()[:50],
        prior=torch.tensor([0.8, 0.2], dtype=torch.float64),
        score_rows=everyone,
        scores=torch.full((POPULATION, 2), 0.5) if not needs.scores else torch.rand(POPULATION, 2, generator=stream),
        victims=hints.victims or {other: shown},
    )
    return dataclasses.replace(
        view,
        sent=(*view.sent, *more(needs.sent, looks, other)),
        received=(*view.received, *more(needs.received, other, looks)),
        hints=wider,
        own=view.own or {looks: holding(stream, everyone, -1, width=DIM, models=True)},
    )


@dataclasses.dataclass(frozen=True)
class Peeks:
    """The cheat: declares the gradients alone and looks at whatever else a view may hold."""

    path: str

    @property
    def needs(self) -> Needs:
        """Less than it reads."""
        return Needs(received=frozenset({Kind.GRADIENT}))

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Read what `path` names, and answer as if it had not."""
        del rng
        operator.attrgetter(self.path)(view.own["publisher_1"] if self.path in ("batch", "bottom", "top") else view)
        seen = view.gradients()
        return Guess("labels", seen.steps, seen.rows, seen.body[:, 0])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("hints.labels", "hints.labels"),
        ("hints.prior", "hints.prior"),
        ("hints.scores", "hints.scores"),
        ("hints.score_rows", "hints.scores"),
        ("batch", "own.columns"),
        ("bottom", "own.models"),
    ],
)
def test_a_cheat_that_reads_more_is_named_by_the_log(path, name):
    log, cheat = set[str](), Peeks(path)
    infer(cheat, watched(generous(cheat), log))
    assert undeclared(log, cheat.needs) == [name]


def test_a_cheat_that_reads_a_message_or_a_victim_is_named_by_the_log():
    view = generous(Peeks("parties"))
    log = set[str]()
    seen = watched(view, log)
    assert undeclared(log, Needs()) == []
    assert [each.kind for each in seen.sent][:1] == [view.sent[0].kind]
    assert not log  # headers are everybody's
    _ = seen.embeddings().body, seen.hints.victims["advertiser"].batch, seen.hints.victims["advertiser"].top
    assert undeclared(log, Needs()) == ["hints.columns", "hints.models", "sent.embedding"]


@pytest.mark.parametrize("part", ["rows", "body"])
def test_either_half_of_a_message_is_enough_to_have_read_it(part):
    log = set[str]()
    operator.attrgetter(part)(watched(generous(Peeks("parties")), log).received[0])
    assert log == {"received.gradient"}


def test_same_stream_gives_the_same_guess(attack):
    view = noise_view(attack)
    torch.manual_seed(1)
    first = infer(attack, view)
    torch.manual_seed(2)
    second = infer(pickle.loads(pickle.dumps(attack)), view)
    assert torch.equal(first.scores, second.scores)
    assert torch.equal(first.rows, second.rows)


def test_is_at_chance_on_noise(attack):
    """Over independent views the figure is chance's, within four standard errors of the views' own spread."""
    guesses = [infer(attack, noise_view(attack, seed)) for seed in range(12)]
    found = [CHANCES[guess.target](guess, seed, attack) for seed, guess in enumerate(guesses)]
    means = torch.tensor([value for value, _ in found])
    off = means - found[0][1]
    error = means.std() / len(means) ** 0.5
    assert off.mean().abs() < 4 * error + 1e-6
    assert off.abs().max() < 0.1


def _labels_auc(guess: Guess, seed: int, attack: Attack) -> tuple[float, float]:
    return _mean_batch_auc(guess), 0.5


def _share_correlation(guess: Guess, seed: int, attack: Attack) -> tuple[float, float]:
    """The correlation of guessed with true shares over batches, divided by ten to share the labels' tolerance."""
    batches = [guess.steps == step for step in guess.steps.unique()]
    true = torch.stack([truth()[guess.rows[each]].double().mean() for each in batches])
    guessed = torch.stack([guess.scores[each].double().mean() for each in batches])
    return float(torch.corrcoef(torch.stack([true, guessed]))[0, 1]) / 10, 0.0


def _nothing_explained(guess: Guess, seed: int, attack: Attack) -> tuple[float, float]:
    """The mean correlation of guessed with true columns."""
    return _mean_correlation(guess, hidden(guess, seed)), 0.0


def _ids_named(guess: Guess, seed: int, attack: Attack) -> tuple[float, float]:
    """The share of ids named correctly where four are equally likely."""
    return float((guess.scores.argmax(dim=1) == hidden(guess, seed)[:, 0]).double().mean()), 0.25


def _members_auc(guess: Guess, seed: int, attack: Attack) -> tuple[float, float]:
    return _mean_batch_auc(guess), 0.5


def _damage(guess: Guess, seed: int, attack: Attack) -> tuple[float, float]:
    """A joint model that knows nothing is wrong as often on tampered rows as on others."""
    answers, hit = answered(attack, seed)[guess.rows], guess.scores > 0
    wrong = (answers != coins(seed)[guess.rows]).double()
    return float(wrong[hit].mean() - wrong[~hit].mean()), 0.0


def _turned(guess: Guess, seed: int, attack: Attack) -> tuple[float, float]:
    """Where gradients are noise, the class that an attack drives answers to is the wanted one as often as the other.

    All rows go one way, so the figure is near a half above or below; it is divided by ten to share the tolerance.
    """
    answers, labels, hit = answered(attack, seed)[guess.rows], coins(seed), guess.scores > 0
    wanted = labels[guess.reference]
    counted, turned = labels[guess.rows] != wanted, (answers == wanted).double()
    return float(turned[hit & counted].mean() - turned[~hit & counted].mean()) / 10, 0.0


def coins(seed: int) -> Tensor:
    """Labels that nothing was made from."""
    return (torch.rand(POPULATION, generator=torch.Generator().manual_seed(7000 + seed)) < 0.5).long()


def answered(attack: Any, seed: int) -> Tensor:
    """Play an attack that tampers through rounds whose gradients are noise; return a random top's answers when served.

    The rounds, and so the row that stands for the wanted class, are those of the view of the seed.
    """
    view, bottom = noise_view(attack, seed), Flat(DIM, torch.Generator().manual_seed(seed))
    if isinstance(attack, Wrap):
        bottom = attack.wrap(bottom, Seeds(seed))
    state: State = attack.init()
    rounds = view.received or view.sent
    for envelope in rounds:
        rows, stream = envelope.rows, torch.Generator().manual_seed(envelope.step)
        body = bottom(Batch(rows, *(column[rows] for column in columns(seed)))).detach()
        sent, state = attack.apply(body, state, SendContext(envelope.step, stream, None, 2, rows=rows))
        if isinstance(attack, Guard):
            state = attack.inspect(envelope.body, state, ReceiveContext(envelope, True, stream, 2, sent=sent))[1]
    everyone, stream = torch.arange(POPULATION), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        body = bottom(Batch(everyone, *columns(seed)))
    ctx = SendContext(10**6, stream, None, 2, rows=everyone, learning=False)
    served, _ = attack.apply(body, state, ctx)
    return (served @ torch.randn(DIM, generator=stream) > 0).long()


CHANCES = {
    "labels": _labels_auc,
    "proportion": _share_correlation,
    "features": _nothing_explained,
    "attribute": _ids_named,
    "membership": _members_auc,
    "outcome": _damage,
    "backdoor": _turned,
}


def hidden(guess: Guess, seed: int) -> Tensor:
    """The victim's true columns, some rows of which the attack may know; no message was made from them."""
    numeric, categorical = columns(seed)
    if guess.target == "attribute":
        return categorical[guess.rows]
    names = [*(f"n{place}" for place in range(COLUMNS)), "colour"]
    return torch.cat([numeric, categorical.float()], dim=1)[guess.rows][
        :, [names.index(name) for name in guess.columns]
    ]


def _mean_correlation(guess: Guess, true: Tensor) -> float:
    pairs = zip(guess.scores.double().T, true.double().T, strict=True)
    return float(torch.stack([torch.corrcoef(torch.stack(pair))[0, 1].nan_to_num() for pair in pairs]).mean())


def _mean_batch_auc(guess: Guess) -> float:
    scores = guess.scores if guess.scores.ndim == 1 else guess.scores[:, 1]
    found: list[float] = []
    for step in guess.steps.unique():
        here = guess.steps == step
        positive = truth()[guess.rows[here]] == 1
        ones, zeros = scores[here][positive], scores[here][~positive]
        if len(ones) and len(zeros):
            beaten = ones[:, None] - zeros
            found.append(float(((beaten > 0).float() + (beaten == 0).float() / 2).mean()))
    return sum(found) / len(found)
