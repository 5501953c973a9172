"""One round of JPL, CELU and FedUD against the same arithmetic written out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity

from tests.oracles.method_desk import (
    ALIGNED,
    ALONE,
    BESIDE,
    LEFT,
    WIDTH,
    Bottom,
    Rows,
    desk,
    mail,
    same,
    stepped,
)
from vfl.methods.celu import Celu
from vfl.methods.fedud import Fedud
from vfl.methods.jpl import Jpl, rank_loss
from vfl.types import Kind, Pool, Role

AL, OWN = Rows().take(torch.arange(ALIGNED)), Rows().take(Rows().handles(Pool.LEFTOVER))


@pytest.fixture
def networks() -> tuple[Bottom, nn.Linear, torch.Tensor]:
    torch.manual_seed(3)
    return Bottom(), nn.Linear(2 * WIDTH, 1), torch.randn(ALIGNED, WIDTH)


def entropy(top: nn.Module, sent: torch.Tensor, own: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = top(torch.cat([sent, own], dim=1))[:, 0]
    return binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")


def test_jpl_trains_joint_network_imitator_and_branch_and_publishers_hear_of_the_joint_loss_alone(networks):
    bottom, top, sent = networks
    side = Jpl(imitation=0.7, rank=0.3).advertiser(desk(Role.ADVERTISER, bottom, top))
    imitator, local = copy.deepcopy(side.parts["imitator"]), copy.deepcopy(top)
    side.own(BESIDE, {})
    gradient = side.fuse(BESIDE, mail(sent)).bodies["publisher"]
    reported = side.finish(BESIDE, {}).report["loss"]

    leaf = sent.clone().requires_grad_()
    (expected,) = torch.autograd.grad(entropy(top, leaf, bottom(AL), AL.labels).mean(), leaf)
    torch.testing.assert_close(gradient, expected)
    joint = entropy(top, sent, bottom(AL), AL.labels).mean()
    wrong = (imitator(bottom(AL)) - sent).square().sum() / ALIGNED
    both = torch.cat([bottom(AL), bottom(OWN)])
    branch = entropy(local, imitator(both), both, torch.cat([AL.labels, OWN.labels])).mean()
    ours = local(torch.cat([imitator(bottom(AL)), bottom(AL)], dim=1))
    theirs = top(torch.cat([sent, bottom(AL)], dim=1)).detach()
    loss = joint + 0.7 * wrong + branch + 0.3 * rank_loss(ours, theirs)
    assert reported == pytest.approx(loss.item(), rel=1e-5)
    stepped([bottom, top, imitator, local], loss)
    for name, module in (("bottom", bottom), ("top", top), ("imitator", imitator), ("local", local)):
        same(side.parts[name], module)


def test_celu_publishers_go_on_with_a_kept_gradient_as_far_as_the_embedding_has_not_moved(networks):
    bottom = networks[0]
    side = Celu(local_steps=2, cache=1, threshold=0.0).publisher(desk(Role.PUBLISHER, bottom))
    sent = side.forward(ALONE, {}).bodies["advertiser"].detach().clone()
    got = 4 * torch.randn(ALIGNED, WIDTH)
    side.backward(ALONE, mail(got, Kind.GRADIENT))

    stepped([bottom], (bottom(AL) * got).sum())
    now = bottom(AL)
    weights = cosine_similarity(now.detach(), sent).clamp_min(0)
    assert weights.min() < 0.9 < weights.max()
    stepped([bottom], (weights[:, None] * now * got).sum())
    same(side.parts["bottom"], bottom)


def test_celu_advertisers_go_on_with_kept_embeddings_as_far_as_the_gradient_has_not_moved(networks):
    bottom, top, sent = networks
    top.weight.data *= 20
    side = Celu(local_steps=2, cache=1, threshold=0.0).advertiser(desk(Role.ADVERTISER, bottom, top))
    side.own(ALONE, {})
    gradient = side.fuse(ALONE, mail(sent)).bodies["publisher"].clone()
    side.finish(ALONE, {})

    stepped([bottom, top], entropy(top, sent, bottom(AL), AL.labels).mean())
    leaf = sent.clone().requires_grad_()
    losses = entropy(top, leaf, bottom(AL), AL.labels) / ALIGNED
    (fresh,) = torch.autograd.grad(losses.sum(), leaf, retain_graph=True)
    weights = cosine_similarity(fresh, gradient).clamp_min(0)
    assert (weights < 1 - 1e-6).any()
    stepped([bottom, top], (weights * losses).sum())
    same(side.parts["bottom"], bottom)
    same(side.parts["top"], top)


def test_fedud_trains_aligned_rows_then_also_its_own_with_what_it_imputes(networks):
    """Rows of either kind count alike; what is imputed carries no gradient to the publisher."""
    bottom, top, sent = networks
    side = Fedud(impute="mean").advertiser(desk(Role.ADVERTISER, bottom, top))
    leaf = sent.clone().requires_grad_()
    for step, count in ((ALONE, ALIGNED), (BESIDE, ALIGNED + LEFT)):
        side.own(step, {})
        gradient = side.fuse(step, mail(sent)).bodies["publisher"]
        reported = side.finish(step, {}).report["loss"]
        loss = entropy(top, leaf, bottom(AL), AL.labels).sum()
        if step is BESIDE:
            loss = loss + entropy(top, sent.mean(dim=0).expand(LEFT, -1), bottom(OWN), OWN.labels).sum()
        loss = loss / count
        assert reported == pytest.approx(loss.item(), rel=1e-5)
        torch.testing.assert_close(gradient, torch.autograd.grad(loss, leaf, retain_graph=True)[0])
        stepped([bottom, top], loss)
        same(side.parts["bottom"], bottom)
        same(side.parts["top"], top)
