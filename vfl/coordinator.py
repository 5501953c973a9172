"""The coordinator: a Flower `ServerApp` that orders phases, hands out step headers, evaluates, checkpoints and stops.

It holds no tensor. What it learns: row counts, the training loss, bytes and times.
"""

from __future__ import annotations

import itertools
import math
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, cast

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from vfl.errors import ConfigError, DataError, PartyGoneError
from vfl.grid import KEEP, PartyGrid, Report, read_report
from vfl.types import Hop, PartyId, Phase, Pool, Role, Step
from vfl.wire import CALL_KEY, CONTROL_KEY, STEP_KEY, step_record

EVALUATION_BATCH = 4096
MANY_IDS = 1000
"""A column with so many ids or more is a sparse one, for the epoch guard."""

Guard = Literal["off", "warn", "stop", "reinit_embeddings"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the coordinator is told: rounds and phases, and how often to checkpoint (0: never).

    `select` says which weights are tested: the last ones, or those with the least validation loss.
    Choosing tells every publisher after which validations that loss fell: a round of its own, on the transcript.
    `validate_every` 0 validates after each epoch; a number does so after so many rounds of the phases that are
    validated, inside an epoch if need be, so that methods with longer epochs are looked at no less often. The last of
    these rounds is validated whatever it says.

    `guard` is what to do where a party has a column of `MANY_IDS` ids or more, before a phase goes over its rows a
    second time: `stop` ends the phase there, `reinit_embeddings` has every party draw its embedding tables anew.

    `restarts` says how often parties that died are brought back in the life of a run, and `without` whether a publisher
    that is gone for good ends it (`stop`), or the advertiser takes the mean embedding that it last had of it.
    """

    align: tuple[Hop, ...]
    phases: tuple[Phase, ...]
    evaluate: tuple[Hop, ...]
    checkpoint_every: int = 0
    select: Literal["last", "best_valid"] = "last"
    validate_every: int = 0
    guard: Guard = "off"
    restarts: int = 0
    without: Literal["stop", "impute"] = "stop"


@dataclass(slots=True)
class Progress:
    """How far a run has come; with a checkpoint, all that is needed to go on from it.

    `losses` has an entry a round, `None` where the round trains nothing; `valid` the loss where there was a validation.
    `absent` are the publishers that the run goes on without, and from which step on.
    """

    step: int = 0
    done: int = 0
    losses: list[float | None] = field(default_factory=list[float | None])
    valid: dict[int, float] = field(default_factory=dict[int, float])
    wall_s: float = 0.0
    absent: dict[PartyId, int] = field(default_factory=dict[PartyId, int])

    def copy(self) -> Progress:
        """Return the same, sharing nothing."""
        return replace(self, losses=list(self.losses), valid=dict(self.valid), absent=dict(self.absent))


@dataclass(slots=True)
class Fit:
    """What a run of the coordinator leaves: counts by pool, losses, times, and what each party's wire chains are."""

    progress: Progress = field(default_factory=Progress)
    reports: dict[PartyId, Report] = field(default_factory=dict[PartyId, Report])
    closing: dict[PartyId, dict[str, object]] = field(default_factory=dict[PartyId, dict[str, object]])
    restarts: int = 0

    @property
    def absent(self) -> dict[PartyId, int]:
        """The publishers that the run went on without, and from which step on."""
        return self.progress.absent

    def rows(self, pool: Pool) -> int:
        """Return the number of rows of a pool: of leftovers the most that a publisher holds, of the last two all."""
        own = self.reports["advertiser"]
        theirs = [
            report["only"] for party, report in self.reports.items() if "only" in report and party != "advertiser"
        ]
        if pool == Pool.LEFTOVER:
            return int(max(theirs, default=0))
        if pool in (Pool.LABELLED, Pool.UNION):
            return int(own["train"] + own["only"] + (sum(theirs) if pool == Pool.UNION else 0))
        return int(own[pool.value])

    @property
    def largest_vocabulary(self) -> int:
        """How many ids the column with the most of them has, at any party."""
        return int(max(report.get("largest_vocabulary", 0.0) for report in self.reports.values()))


class Watcher(Protocol):
    """Who wants to know how the run goes; it never changes it."""

    def phase(self, name: str, steps: int) -> None:
        """Hear that a phase of so many rounds begins."""
        ...

    def advance(self, name: str, done: int, loss: float | None) -> None:
        """Hear that so many rounds of it are done."""
        ...

    def checkpointed(self, progress: Progress) -> None:
        """Hear that every party has written its checkpoint of `progress.step`."""
        ...


def server_app(plan: Plan, fit: Fit, watcher: Watcher, resume: bool = False) -> ServerApp:
    """Return the Flower `ServerApp` of a run; its results go into `fit`, from which it resumes if asked to."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # pyright: ignore[reportUnusedFunction] - Flower registers it
        Coordinator(cast(PartyGrid, grid), plan, fit, watcher).run(resume)

    return app


@dataclass(slots=True)
class Coordinator:
    """One run over one grid."""

    grid: PartyGrid
    plan: Plan
    fit: Fit
    watcher: Watcher
    _saved: Progress | None = None

    def run(self, resume: bool = False) -> None:
        """Align, train, evaluate, and collect what the parties leave behind.

        Where a party dies or stays away, all go on from their last checkpoint, as often as the plan allows; what is
        sent then is what would have been sent, so the digest is the same.
        """
        self._saved = self.fit.progress.copy() if resume else None
        for party in self.fit.absent:
            self.grid.excuse(party)
        while True:
            try:
                return self._run()
            except PartyGoneError as error:
                if self.fit.restarts >= self.plan.restarts:
                    self._do_without(error)
                else:
                    self.fit.restarts += 1
                self._come_back()

    def _come_back(self) -> None:
        """Bring every party to where it was at the last checkpoint; one that does not come is gone for good."""
        while True:
            try:
                self.grid.revive()
                break
            except PartyGoneError as error:
                self._do_without(error)
        self.fit.progress = self._saved.copy() if self._saved else Progress()

    def _do_without(self, error: PartyGoneError) -> None:
        """Go on without the party that is gone; raises the error where the plan, or the party's role, forbids it."""
        party, roster = error.party, self.grid.roster
        if self._saved is None or self.plan.without == "stop" or party in self._saved.absent:
            raise error
        if party not in roster.of(Role.PUBLISHER):
            raise error
        self._saved.absent[party] = self._saved.step
        self.grid.excuse(party)

    def _run(self) -> None:
        self.begin(resume=self._saved is not None)
        self._train()
        if self.plan.select == "best_valid" and self.fit.progress.valid:
            self._control("recall", {})
        self.evaluate("test", Pool.TEST)
        for party, reply in self._control("finish_run", {}).items():
            if party not in self.fit.absent:
                self.fit.closing[party] = dict(reply.content.config_records[CONTROL_KEY])

    def begin(self, resume: bool = False) -> None:
        """Bring the parties to where the next training round can be played."""
        self._greet(fresh=not resume)
        if resume:
            answers = self._control("restore", {"step": self.fit.progress.step})
        else:
            self._align()
            answers = self._control("prepare", {})
        self.fit.reports = {party: read_report(party, reply) for party, reply in answers.items()}
        self._refuse_empty()

    def play(self, hops: tuple[Hop, ...], step: Step) -> dict[PartyId, Report]:
        """Play one round under the run's next step number, and return what each party reports."""
        reports = self.grid.play(hops, replace(step, index=self.fit.progress.step))
        self.fit.progress.step += 1
        return reports

    def checkpoint(self) -> None:
        """Have every party write what it must have to go on from here."""
        self._control("checkpoint", {"step": self.fit.progress.step})
        self._saved = self.fit.progress.copy()
        self.watcher.checkpointed(self.fit.progress)

    def _greet(self, fresh: bool) -> None:
        answers = self._control("hello", {"fresh": int(fresh), "absent": "|".join(self.fit.absent)})
        records = {party: reply.content.config_records.get(CONTROL_KEY, {}) for party, reply in answers.items()}
        hellos = {party: record.get("hello") for party, record in records.items()}
        self._control("meet", {party: hello for party, hello in hellos.items() if hello is not None})

    def _align(self) -> None:
        self.watcher.phase("align", 1)
        self.play(self.plan.align, Step(0, "align", Pool.TRAIN))
        self.watcher.advance("align", 1, None)

    def _train(self) -> None:
        total = sum(1 for _ in self._schedule())
        if not total:
            message = "got 0 with a method that counts in epochs, allowed 1 or more; raise it"
            raise ConfigError(message, key="train.epochs")
        self.watcher.phase("train", total)
        self.watcher.advance("train", self.fit.progress.done, None)
        began = time.perf_counter() - self.fit.progress.wall_s
        for phase, steps, validated in self._stretches():
            if self._guards("reinit_embeddings") and steps[0].epoch and not steps[0].start:
                self._control("renew", {"phase": phase.name, "epoch": steps[0].epoch})
            for reports in self.grid.stream(phase.hops, steps):
                loss = reports["advertiser"].get("loss")
                self.fit.progress.step += 1
                self.fit.progress.done += 1
                self.fit.progress.losses.append(loss)
                self.watcher.advance("train", self.fit.progress.done, loss)
            done = self.fit.progress.done
            if validated:
                self._validate(done)
            self.fit.progress.wall_s = time.perf_counter() - began
            if self.plan.checkpoint_every and done % self.plan.checkpoint_every == 0 and done < total:
                self.checkpoint()

    def _stretches(self) -> Iterator[tuple[Phase, list[Step], bool]]:
        """Yield the rounds still to play, as many at a time as have nothing between them, and if they are validated."""
        every, place = self.plan.checkpoint_every or math.inf, self.fit.progress.done
        steps: list[Step] = []
        for phase, step, ends_epoch, validated in itertools.islice(self._validated(), place, None):
            steps.append(replace(step, index=self.fit.progress.step + len(steps)))
            place += 1
            if ends_epoch or validated or place % every == 0:
                yield phase, steps, validated
                steps = []

    def _validated(self) -> Iterator[tuple[Phase, Step, bool, bool]]:
        """Yield every round, whether it ends its epoch, and whether a validation follows it."""
        every = self.plan.validate_every
        total = sum(phase.validate for phase, _, _ in self._schedule()) if every else 0
        seen = 0
        for phase, step, ends_epoch in self._schedule():
            seen += phase.validate
            due = validation_due(every, seen, last=seen == total, ends_epoch=ends_epoch)
            yield phase, step, ends_epoch, phase.validate and due

    def _schedule(self) -> Iterator[tuple[Phase, Step, bool]]:
        once = self._guards("stop")
        for phase in self.plan.phases:
            for step, ends_epoch in phase_steps(phase, self.fit.rows(phase.pool)):
                if not (once and step.epoch):
                    yield phase, step, ends_epoch

    def _guards(self, way: Guard) -> bool:
        return self.plan.guard == way and self.fit.largest_vocabulary >= MANY_IDS

    def _validate(self, done: int) -> None:
        reports = self.evaluate("valid", Pool.VALID)
        rows = sum(report.get("valid_rows", 0.0) for report in reports)
        if rows:
            loss = sum(report["valid_loss_sum"] for report in reports) / rows
            best = min(self.fit.progress.valid.values(), default=math.inf)
            self.fit.progress.valid[done] = loss
            if self.plan.select == "best_valid" and loss < best:
                self.play(KEEP, Step(0, "valid", Pool.VALID))

    def evaluate(self, phase: str, pool: Pool) -> list[Report]:
        """Play the evaluation round over the rows of a pool, and return what the advertiser reports of each batch."""
        steps = evaluation_steps(phase, pool, self.fit.rows(pool))
        return [self.play(self.plan.evaluate, step)["advertiser"] for step in steps]

    def _control(self, name: str, given: Mapping[str, object]) -> dict[PartyId, Message]:
        step = step_record(Step(0, "control", Pool.TRAIN))
        call = ConfigRecord({**given, CALL_KEY: secrets.token_hex(8)})  # pyright: ignore[reportArgumentType]
        content = RecordDict({STEP_KEY: step, CONTROL_KEY: call})
        roster = self.grid.roster
        messages = [Message(content, roster.node(party), f"query.{name}") for party in roster.ids()]
        replies = list(self.grid.send_and_receive(messages))
        for party, reply in zip(roster.ids(), replies, strict=True):
            read_report(party, reply)
        return dict(zip(roster.ids(), replies, strict=True))

    def _refuse_empty(self) -> None:
        if self.fit.rows(Pool.TRAIN) + self.fit.rows(Pool.VALID) + self.fit.rows(Pool.TEST) == 0:
            publishers = ", ".join(self.grid.roster.of(Role.PUBLISHER))
            raise DataError(f"got zero rows that the advertiser shares with {publishers}; check that their ids match")
        for pool, key, advice in (
            (Pool.TRAIN, "align.overlap", "raise it, or check that the parties' ids match"),
            (Pool.TEST, "holdout.test", "raise it"),
        ):
            if self.fit.rows(pool) == 0:
                raise DataError(f"got zero aligned {pool.value} rows, allowed 1 or more; {advice}", key=key)


def validation_due(every: int, seen: int, *, last: bool, ends_epoch: bool) -> bool:
    """Return whether a validation follows so many rounds: after each epoch for 0, else by count and after the last."""
    return last or seen % every == 0 if every else ends_epoch


def evaluation_steps(phase: str, pool: Pool, rows: int) -> list[Step]:
    """Return the step headers that go over so many rows of a pool once."""
    starts = range(0, rows, EVALUATION_BATCH)
    return [Step(0, phase, pool, start=start, size=min(EVALUATION_BATCH, rows - start)) for start in starts]


def phase_rounds(phase: Phase, rows: int) -> int:
    """Return how many rounds a phase has over so many rows: none over no row."""
    count = -(-rows // phase.batch_size)
    return max(phase.epochs * count, phase.min_steps) if count else 0


def phase_steps(phase: Phase, rows: int) -> Iterator[tuple[Step, bool]]:
    """Yield the step headers of a phase over so many rows, and whether each ends an epoch or the phase.

    An epoch is cut into as few batches of at most `batch_size` rows as hold it, equal to within one row: a remainder of
    a few rows would move the weights as far as a full batch does, and with it every prediction.
    """
    count, total = -(-rows // phase.batch_size), phase_rounds(phase, rows)
    for taken in range(total):
        epoch, place = divmod(taken, count)
        size, more = divmod(rows, count)
        start, size = place * size + min(place, more), size + (place < more)
        step = Step(0, phase.name, phase.pool, epoch=epoch, start=start, size=size, shuffle=phase.shuffle, of=rows)
        yield step, place == count - 1 or taken == total - 1
