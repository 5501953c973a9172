"""Guards: each finds what was made to be found, leaves honest messages alone, and repairs to what it should."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vfl.defenses import ReceiveContext
from vfl.defenses.consistency import Consistency
from vfl.defenses.grad_scrutiny import GradScrutiny, unexplained
from vfl.defenses.norm_check import NormCheck
from vfl.types import Batch, Envelope, Kind

ROWS, DIM = 128, 8


def stream(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(sum(1000**place * number for place, number in enumerate(numbers)))


def came(kind: Kind, body: Tensor, **told) -> ReceiveContext:
    envelope = Envelope(0, kind, "them", "us", torch.arange(len(body)), body)
    return ReceiveContext(envelope, told.pop("learning", True), stream(0), 2, **told)


class TestNormCheck:
    def test_flags_what_is_longer_than_all_before_and_cuts_it_to_the_limit(self):
        guard, state = NormCheck(factor=2.0, warm_up=5, act="repair"), NormCheck().init()
        for step in range(6):
            body = torch.randn(ROWS, DIM, generator=stream(step))
            _, state = guard.inspect(body, state, came(Kind.EMBEDDING, body))
        longest = max(float(torch.randn(ROWS, DIM, generator=stream(s)).norm(dim=1).max()) for s in range(6))
        assert float(state["longest"]) == pytest.approx(longest)
        body = torch.randn(ROWS, DIM, generator=stream(77))
        body[3] *= 2.1 * longest / body[3].norm()
        body[4] *= 1.9 * longest / body[4].norm()
        verdict, after = guard.inspect(body, state, came(Kind.EMBEDDING, body))
        assert verdict.flagged.nonzero().flatten().tolist() == [3]
        assert float(verdict.repaired[3].norm()) == pytest.approx(2 * longest, rel=1e-6)
        assert float(after["longest"]) == pytest.approx(1.9 * longest, rel=1e-6)

    def test_gradients_are_measured_without_the_size_of_their_batch(self):
        guard, state = NormCheck(on="gradient", factor=1.5, warm_up=1), NormCheck().init()
        body = torch.randn(ROWS, DIM, generator=stream(1))
        _, state = guard.inspect(body / ROWS, state, came(Kind.GRADIENT, body / ROWS))
        half = body[: ROWS // 2] / (ROWS // 2)
        verdict, _ = guard.inspect(half, state, came(Kind.GRADIENT, half))
        assert not verdict.flagged.any()


class TestGradScrutiny:
    def test_the_closed_form_is_a_regression_that_leaves_each_row_out(self):
        x, y = (torch.randn(30, 3, generator=stream(s), dtype=torch.float64) for s in (1, 2))
        squared = torch.cdist(x, x).square()
        kernel = (-squared / (2 * squared.median())).exp()
        centred, found = y - y.mean(dim=0), 0.0
        for row in range(30):
            others = [other for other in range(30) if other != row]
            inner = kernel[others][:, others] + 0.1 * torch.eye(29)
            predicted = kernel[row, others] @ torch.linalg.solve(inner, centred[others])
            found += float((centred[row] - predicted).square().sum())
        left, total = unexplained(y, x)
        assert float(left) == pytest.approx(found, rel=1e-8)
        loop = sum(float((y[r] - y[[o for o in range(30) if o != r]].mean(dim=0)).square().sum()) for r in range(30))
        assert float(total) == pytest.approx(loop, rel=1e-8)

    @pytest.mark.parametrize("positives", [0.01, 0.3])
    def test_labels_cannot_be_foretold_but_a_hijack_can(self, positives):
        """Honest: residues of a calibrated model times a direction. Hijack: a network's gradient at the sent rows."""
        torch.manual_seed(0)
        critic = nn.Sequential(nn.Linear(DIM, 32), nn.ReLU(), nn.Linear(32, 1))
        shares = {"honest": [], "hijack": []}
        flagged = {"honest": False, "hijack": False}
        for name in shares:
            guard, state = GradScrutiny(warm_up=5), GradScrutiny().init()
            for step in range(20):
                sent = torch.randn(ROWS, DIM, generator=stream(step))
                score = torch.sigmoid(sent @ torch.ones(DIM) * 0.5 + torch.logit(torch.tensor(positives)))
                labels = torch.bernoulli(score, generator=stream(step, 1))
                leaf = sent.clone().requires_grad_()
                critic(leaf).sum().backward()
                honest = (score - labels)[:, None] * torch.linspace(-1, 1, DIM)
                body = (honest if name == "honest" else leaf.grad) / ROWS
                verdict, state = guard.inspect(body, state, came(Kind.GRADIENT, body, sent=sent))
                shares[name].append(float(verdict.suspicion[0]))
                flagged[name] |= bool(verdict.flagged.any())
        assert flagged == {"honest": False, "hijack": True}
        assert max(shares["honest"][5:]) < 0.2 < 0.5 < min(shares["hijack"][5:])


class TestConsistency:
    def rows(self, step: int, noise: float = 0.3) -> tuple[Batch, dict[str, Tensor], Tensor]:
        """Own columns, another publisher's embedding and this one's: linear in what all of them share."""
        common = torch.randn(ROWS, 3, generator=stream(step))
        parts = [common @ torch.randn(3, width, generator=stream(9, width)) for width in (4, 6, DIM)]
        own, other, body = (
            part + noise * torch.randn(part.shape, generator=stream(step, i)) for i, part in enumerate(parts)
        )
        ids = torch.randint(100, (ROWS, 1), generator=stream(step, 5))
        return Batch(torch.arange(ROWS), own, ids), {"other": other}, body

    def run(self, guard: Consistency, beside: bool = True):
        state = guard.init()
        for step in range(1, 40):
            own, other, body = self.rows(step)
            _, state = guard.inspect(body, state, came(Kind.EMBEDDING, body, batch=own, beside=other if beside else {}))
        return state

    @pytest.mark.parametrize("beside", [True, False], ids=["two publishers", "one publisher"])
    def test_finds_embeddings_of_other_rows_and_gives_back_what_they_should_be(self, beside):
        guard = Consistency(act="repair")
        state = self.run(guard, beside)
        own, other, body = self.rows(99)
        sent = body.clone()
        sent[:10] = self.rows(98)[2][:10] * 2
        told = came(Kind.EMBEDDING, sent, batch=own, beside=other if beside else {}, learning=False)
        verdict, after = guard.inspect(sent, state, told)
        assert verdict.flagged[:10].float().mean() >= 0.9
        assert verdict.flagged[10:].float().mean() <= 0.02
        assert all(torch.equal(after[name], state[name]) for name in state)
        error = (verdict.repaired - body)[:10].square().mean() / body.var()
        assert error < 0.15 < (sent - body)[:10].square().mean() / body.var()

    def test_knows_nothing_without_another_source(self):
        _, _, body = self.rows(1)
        verdict, state = Consistency().inspect(body, {}, came(Kind.EMBEDDING, body))
        assert not verdict.suspicion.any()
        assert state == {}
