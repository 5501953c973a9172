"""The advertiser's half of RISA: imputes, holds opinions, chooses rows, and trains on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from vfl.evidence import Opinion, discount, evidence, evidential_loss, fuse, opinion, vacuous
from vfl.exchange import NOTHING, Mail, Outgoing, bodies_about, bodies_begun
from vfl.losses import probabilities, row_losses
from vfl.methods import Desk, Parts
from vfl.methods._choosing import Assessed, choose, growing, trusted
from vfl.methods._imputing import Embeddings, Imputation
from vfl.types import ADVERTISER, REFEREE, PartyId, Pool, Step

if TYPE_CHECKING:
    from vfl.methods.risa import Risa

CHUNK = 4096


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows that the same parties hold: all parties' embeddings, who is there, classes and weights, `(rows,)`."""

    embeddings: Embeddings
    present: tuple[PartyId, ...]
    labels: Tensor
    weights: Tensor


class RisaAdvertiser:
    """Own bottom, fusing network and one evidence head a party; alone in seeing labels."""

    def __init__(self, desk: Desk, options: Risa) -> None:
        self._desk, self._options = desk, options
        self._bottom = desk.bottom()
        self._top = desk.top(sum(desk.widths.values()))
        with desk.seeds.initialising("heads"):
            self._heads = nn.ModuleDict({party: nn.Linear(width, desk.classes) for party, width in desk.widths.items()})
        modules = [self._top, self._heads, *([] if self._bottom is None else [self._bottom])]
        self._optimizer = desk.train.make_optimizer([p for module in modules for p in module.parameters()])
        self._imputation = Imputation(desk, options.impute, options.refit_every, self._embed)
        self._assessed: dict[PartyId, Assessed] = {}
        self._pending: dict[PartyId, list[Assessed]] = {}
        self._judged = {party: torch.empty(0, 2, dtype=torch.float64) for party in desk.publishers}
        self._round, self._learned = torch.tensor(0), torch.tensor(0)
        self._own: Tensor | None = None
        self._own_leaf: Tensor | None = None
        self._loss = 0.0

    @property
    def parts(self) -> Parts:
        """Fusing network, heads, optimizer, and the own bottom model where there is one."""
        own = {} if self._bottom is None else {"bottom": self._bottom}
        return {**own, "top": self._top, "heads": self._heads, "optimizer": self._optimizer}

    def loose(self) -> Mapping[str, Tensor]:
        """Return what was imputed from, what was chosen or is being assessed, and how far the run is."""
        kept = {"round": self._round, "learned": self._learned}
        kept |= {f"judged/{party}": found for party, found in self._judged.items()}
        kept |= {f"impute/{name}": value for name, value in self._imputation.loose().items()}
        for name in Assessed.__slots__:
            kept |= {f"assessed/{party}/{name}": getattr(found, name) for party, found in self._assessed.items()}
            under_way = {party: [getattr(part, name) for part in parts] for party, parts in self._pending.items()}
            kept |= {f"pending/{party}/{name}": torch.cat(parts) for party, parts in under_way.items() if parts}
        return kept

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take back what `loose` gave."""
        self._round, self._learned = loose["round"], loose["learned"]
        self._judged = {party: loose[f"judged/{party}"] for party in self._judged}
        self._imputation.resume({k.removeprefix("impute/"): v for k, v in loose.items() if k.startswith("impute/")})
        self._assessed = _assessed(loose, "assessed/")
        self._pending = {party: [] for party in self._desk.publishers}
        self._pending |= {party: [found] for party, found in _assessed(loose, "pending/").items()}

    def own(self, step: Step, mail: Mail) -> Outgoing:
        """Run the own bottom model on aligned rows and on its own leftovers of the step."""
        self._optimizer.zero_grad()
        if self._bottom is not None:
            rows = torch.cat([self._desk.batch(step).rows, self._leftover(step)])
            self._own = self._bottom(self._desk.rows.take(rows))
            self._own_leaf = cast(Tensor, self._own).detach().requires_grad_()
        return NOTHING

    def fuse(self, step: Step, mail: Mail) -> Outgoing:
        """Send each publisher the gradient of the loss by its embeddings, of aligned and of chosen rows."""
        return self._trained(step, mail, self._block_loss)

    def teach(self, step: Step, mail: Mail) -> Outgoing:
        """Do as `fuse` does, with the heads' loss alone."""
        return self._trained(step, mail, self._heads_loss)

    def _trained(self, step: Step, mail: Mail, block_loss: Callable[[_Block], Tensor]) -> Outgoing:
        rows = self._desk.batch(step).rows
        sent = bodies_begun(mail, self._desk.publishers, rows)
        leaves = {party: body.requires_grad_() for party, body in sent.items()}
        blocks = self._blocks(step, mail, leaves)
        weights = sum((block.weights.sum() for block in blocks), torch.zeros(()))
        loss = sum((block_loss(block) for block in blocks), torch.zeros(())) / weights.clamp_min(1e-9)
        if loss.requires_grad:
            loss.backward()
        self._loss = loss.item()
        self._learned += 1
        theirs = {party: mail[party].rows[len(rows) :] for party in leaves}
        believed = [(own, self._pseudo(party, own)) for party, own in theirs.items()]
        if believed:
            self._desk.rows.believe(*(torch.cat(part) for part in zip(*believed, strict=True)))
        gradients = {
            party: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for party, leaf in leaves.items()
        }
        return Outgoing({party: mail[party].rows for party in gradients}, gradients)

    def finish(self, step: Step, mail: Mail) -> Outgoing:
        """Carry the gradient through the own bottom model and update, beside the publishers' backward."""
        if self._own is not None and self._own_leaf is not None and self._own_leaf.grad is not None:
            self._own.backward(self._own_leaf.grad)
        self._optimizer.step()
        self._own = self._own_leaf = None
        return Outgoing(report={"loss": self._loss})

    def assess(self, step: Step, mail: Mail) -> Outgoing:
        """Score and pseudo-label the step's rows of each publisher; at the end of them all, choose."""
        if step.start == 0:
            self._pending = {party: [] for party in self._desk.publishers}
            self._round += 1
            self._imputation.forget(step)
        for party in self._desk.publishers:
            envelope = mail[party]
            self._pending[party].append(self._judge(step, envelope.rows, {party: envelope.body}))
        if step.ends_epoch:
            self._pending |= self._judge_own(step)
            self._assessed = {party: self._chosen(party, found) for party, found in self._pending.items()}
        return NOTHING

    def announce(self, step: Step, mail: Mail) -> Outgoing:
        """Tell each publisher which of its rows of the step are chosen, `(rows, 1)`, and the referee the labels."""
        parts = {party: self._part(step, self._assessed[party]) for party in self._desk.publishers}
        bodies = {party: found.chosen[:, None].float() for party, found in parts.items()}
        noted = [torch.stack([found.classes, found.chosen], dim=1).float() for found in parts.values()]
        rows = {party: found.rows for party, found in parts.items()}
        rows[REFEREE] = torch.cat([*rows.values(), torch.empty(0, dtype=torch.int64)])
        return Outgoing(rows, {**bodies, REFEREE: torch.cat([*noted, torch.empty(0, 2)])})

    def score(self, step: Step, mail: Mail) -> Outgoing:
        """Send class probabilities of evaluation rows, `(rows, classes)`, to the referee."""
        batch = self._desk.batch(step)
        with torch.no_grad():
            given = bodies_about(mail, self._desk.publishers, batch.rows)
            given |= {} if self._bottom is None else {ADVERTISER: self._bottom(batch)}
            found = self._predict(given, tuple(given))
        report: dict[str, float] = {}
        if step.phase == "valid":
            likelihood = found.gather(1, cast(Tensor, batch.labels)[:, None]).clamp_min(1e-12)
            self._calibrate(step, given, cast(Tensor, batch.labels))
            report = {"valid_loss_sum": -likelihood.log().sum().item(), "valid_rows": float(len(batch.rows))}
        return Outgoing(batch.rows, {REFEREE: found}, report=report)

    def _calibrate(self, step: Step, given: Embeddings, labels: Tensor) -> None:
        """Note how right, and how sure, each publisher's part alone is of the classes of validation rows."""
        for party in self._desk.publishers if self._options.least_precision else ():
            found = self._judge(step, torch.arange(len(labels)), {party: given[party]})
            judged = torch.stack([found.scores.double(), (found.classes == labels).double()], dim=1)
            earlier = self._judged[party] if step.start else judged[:0]
            self._judged[party] = torch.cat([earlier, judged])

    def _embed(self, rows: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [cast(nn.Module, self._bottom)(self._desk.rows.take(part)) for part in rows.split(CHUNK)]
            return torch.cat(parts)

    def _leftover(self, step: Step) -> Tensor:
        """Return the own leftover rows to train on in this step: all of them, or those that were chosen."""
        rows = self._desk.leftover(step).rows
        if self._options.leftover_labels == "known":
            return rows
        found = self._assessed.get(ADVERTISER)
        return rows[found.chosen[found.at(rows)]] if found else rows[:0]

    def _blocks(self, step: Step, mail: Mail, leaves: Mapping[PartyId, Tensor]) -> list[_Block]:
        batch, publishers = self._desk.batch(step), self._desk.publishers
        count, parties = len(batch.rows), tuple(self._desk.widths)
        aligned = {party: leaf[:count] for party, leaf in leaves.items()}
        self._imputation.see(step, batch.rows, aligned)
        own = self._own_leaf
        aligned |= {} if own is None else {ADVERTISER: own[:count]}
        blocks = [_Block(aligned, parties, cast(Tensor, batch.labels), torch.ones(count))]
        if own is not None:
            rows = self._leftover(step)
            labels = self._own_labels(rows)
            filled = self._imputation.fill(step, {ADVERTISER: own[count:]}, labels)
            blocks.append(_Block(filled, (ADVERTISER,), labels, self._certainty(ADVERTISER, rows)))
        for party in publishers:
            rows = mail[party].rows[count:]
            labels = self._pseudo(party, rows)
            filled = self._imputation.fill(step, {party: leaves[party][count:]}, labels)
            weights = self._options.publisher_weight * self._certainty(party, rows)
            blocks.append(_Block(filled, (party,), labels, weights))
        return [block for block in blocks if len(block.labels)]

    def _block_loss(self, block: _Block) -> Tensor:
        options, loss = self._options, torch.zeros(len(block.labels))
        if options.predict == "top":
            loss = row_losses(self._top(_joined(block.embeddings)), block.labels)
        if options.evidence_weight:
            loss = loss + options.evidence_weight * self._evidential_loss(block)
        return (block.weights * loss).sum()

    def _heads_loss(self, block: _Block) -> Tensor:
        return (block.weights * self._evidential_loss(block)).sum()

    def _evidential_loss(self, block: _Block) -> Tensor:
        """Return the `(rows,)` loss of the present parties' heads, and of their fused opinion where it differs."""
        options = self._options
        opinions = self._opinions(block.embeddings, block.present)
        alphas = [opinions[party].alpha for party in block.present]
        if len(block.present) > 1 or options.imputed_weight:
            alphas.append(fuse(list(opinions.values()), options.fusion).alpha)
        grown = min(1.0, int(self._learned) / options.anneal_steps) if options.anneal_steps else 1.0
        held = [evidential_loss(alpha, block.labels, options.loss, options.divergence * grown) for alpha in alphas]
        return torch.stack(held).sum(dim=0)

    def _opinions(self, embeddings: Embeddings, present: tuple[PartyId, ...]) -> dict[PartyId, Opinion]:
        """Return each party's opinion; one that is imputed counts for `imputed_weight`."""
        options, found = self._options, dict[PartyId, Opinion]()
        for party, body in embeddings.items():
            if party not in present and not options.imputed_weight:
                found[party] = vacuous(len(body), self._desk.classes)
                continue
            held = opinion(evidence(self._heads[party](body), options.activation) + 1)
            found[party] = held if party in present else discount(held, options.imputed_weight)
        return found

    def _predict(self, embeddings: Embeddings, present: tuple[PartyId, ...]) -> Tensor:
        if self._options.predict == "top":
            return probabilities(self._top(_joined(embeddings)))
        return fuse(list(self._opinions(embeddings, present).values()), self._options.fusion).expected

    def _judge(self, step: Step, rows: Tensor, given: Embeddings) -> Assessed:
        """Score and pseudo-label rows that only one party holds."""
        with torch.no_grad():
            filled = self._imputation.fill(step, given, None)
            present = tuple(given)
            if self._options.select_by == "uncertainty":
                fused = fuse(list(self._opinions(filled, present).values()), self._options.fusion)
                shares, scores = fused.expected, fused.uncertainty[:, 0]
            else:
                shares = self._predict(filled, present)
                scores = SCORES[self._options.select_by](shares)
        return Assessed(rows, shares.argmax(dim=1), scores, torch.zeros(len(rows), dtype=torch.bool))

    def _judge_own(self, step: Step) -> dict[PartyId, list[Assessed]]:
        if self._options.leftover_labels == "known" or self._bottom is None:
            return {}
        parts = self._desk.rows.handles(Pool.LEFTOVER).split(CHUNK)
        return {ADVERTISER: [self._judge(step, part, {ADVERTISER: self._embed(part)}) for part in parts]}

    def _chosen(self, party: PartyId, parts: list[Assessed]) -> Assessed:
        options = self._options
        rows, classes, scores = (torch.cat([getattr(part, name) for part in parts]) for name in _JUDGED)
        order = torch.argsort(rows)
        share = growing(options.share_first, options.share_last, int(self._round), options.rounds)
        classes, scores = classes[order], scores[order]
        chosen = choose(classes, scores, share, options.per_class)
        if party in self._judged:
            known = self._judged[party]
            chosen &= scores <= trusted(known[:, 0], known[:, 1] > 0, options.least_precision)
        return Assessed(rows[order], classes, scores, chosen)

    def _part(self, step: Step, found: Assessed) -> Assessed:
        span = step.span(len(found.rows))
        return Assessed(*(getattr(found, name)[span] for name in Assessed.__slots__))

    def _own_labels(self, rows: Tensor) -> Tensor:
        if self._options.leftover_labels == "known":
            return cast(Tensor, self._desk.rows.take(rows).labels)
        return self._pseudo(ADVERTISER, rows)

    def _pseudo(self, party: PartyId, rows: Tensor) -> Tensor:
        found = self._assessed.get(party)
        return torch.zeros_like(rows) if found is None else found.classes[found.at(rows)]

    def _certainty(self, party: PartyId, rows: Tensor) -> Tensor:
        """Return the weights of pseudo-labelled rows: 1, or how certain they are where `soft` is set."""
        found = self._assessed.get(party)
        if found is None or not self._options.soft:
            return torch.ones(len(rows))
        return (1 - found.scores[found.at(rows)]).clamp(0, 1)


_JUDGED = ("rows", "classes", "scores")


def _doubt(shares: Tensor) -> Tensor:
    return 1 - shares.max(dim=1).values


def _entropy(shares: Tensor) -> Tensor:
    """Return the entropy of `(rows, classes)` shares, as a share of the greatest there is."""
    return torch.special.entr(shares).sum(dim=1) / math.log(shares.shape[1])


SCORES: dict[str, Callable[[Tensor], Tensor]] = {"confidence": _doubt, "entropy": _entropy}


def _joined(embeddings: Embeddings) -> Tensor:
    return torch.cat(list(embeddings.values()), dim=1)


def _assessed(loose: Mapping[str, Tensor], prefix: str) -> dict[PartyId, Assessed]:
    parties = sorted({key.split("/")[1] for key in loose if key.startswith(prefix)})
    return {party: Assessed(*(loose[f"{prefix}{party}/{name}"] for name in Assessed.__slots__)) for party in parties}
