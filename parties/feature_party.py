"""What publishers and the advertiser share: rows of their own, aligned once, then handed to a method's side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

import pandas as pd
import torch
from torch import Tensor, nn

from parties.aligning import Aligning
from parties.mounts import Mounts, mount, steered
from parties.panel import panel
from parties.rows import Rows, leftover_base, leftover_order
from parties.settle import settle
from parties.spec import PartySpec
from parties.table import Resident, encode
from parties.teacher import Teacher
from vfl.align import Alignment, AlignSide, Ids
from vfl.data.cut import Shard
from vfl.data.encode import EncodeOptions, Encoder
from vfl.data.keys import give_back
from vfl.data.shard import LocalTable, load_features, load_ids, load_keys
from vfl.exchange import Mail, Outgoing
from vfl.holding import TABLE_FILE, save_table
from vfl.methods import Desk, Parts, Remembers, Side
from vfl.registry import build
from vfl.sealed import Sealed
from vfl.seeds import Seeds
from vfl.types import Batch, PartyId, Role, Step, TableSchema
from vfl.whole import write_whole


class FeatureParty:
    """The player of a publisher or the advertiser. Labels are loaded only where the shard says it owns them."""

    def __init__(
        self, spec: PartySpec, make_align: Callable[[Ids, Seeds], AlignSide], make_side: Callable[[Desk], Side]
    ) -> None:
        self._spec, self._shard = spec, cast(Shard, spec.shard)
        keys: Ids = load_keys(self._shard) if self._shard.keyed else torch.from_numpy(load_ids(self._shard))
        kept = None if spec.alignments is None else Path(spec.alignments) / spec.party
        self._align: Aligning | None = Aligning(partial(make_align, keys, spec.seeds.scope("align")), kept)
        del keys  # an aligner that has packed them holds them no longer
        give_back()
        self._make_side = make_side
        self._resumed: Alignment | None = None
        self._remembered: dict[str, Tensor] = {}
        self._rows: Rows | None = None
        self._side: Side | None = None
        self._schema = TableSchema()
        self._panel: Batch | None = None

    def handler(self, name: str) -> Callable[[Step, Mail], Outgoing]:
        """Return a handler of the aligner before `prepare`, of the method after it."""
        return cast(Aligning, self._align).handler(name) if self._side is None else getattr(self._side, name)

    def prepare(self) -> dict[str, float]:
        """Load and encode this party's rows, build its side, and report how many rows of each kind it holds."""
        alignment = self.alignment()
        spec, local = self._spec, load_features(self._shard)
        options = EncodeOptions(**spec.encoding)
        folder = spec.path()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        encoder, table = encode(local, self.training_rows(alignment), options, folder)
        if folder is not None:
            write_whole(folder / "encoder.json", encoder.to_json().encode())
        place, leftover = spec.roster.ids().index(spec.party), leftover_order(len(alignment.only), spec.seeds)
        base = leftover_base(place)
        schema = self._schema = encoder.schema
        mounts = mount(spec.defenses, spec.seeds, spec.classes, spec.tampers)
        labels = _training_labels(local, alignment)
        self._rows = Rows(table, alignment, labels, spec.shared, base, leftover)
        if labels is not None and mounts.changes_labels:
            training = self.training_rows(alignment)
            teacher = self._teacher(schema, *table.take(training))
            relabel = partial(_relabel, mounts, labels.open(), training, teacher)
            self._rows = Rows(table, alignment, relabel(0), spec.shared, base, leftover)
            self._rows.relabel = relabel if mounts.each_epoch else None
        self._sit(self._rows, schema, mounts)
        counts = {"train": alignment.train, "valid": alignment.valid, "test": alignment.test}
        held = {f"held/{who}": float(count) for who, count in alignment.held.items()}
        report = {**{key: float(value) for key, value in counts.items()}, "only": float(len(alignment.only)), **held}
        return {**report, "largest_vocabulary": float(max(schema.sizes, default=0))}

    def serve(self, frame: pd.DataFrame, trained: Path) -> None:
        """Take other rows in place of this party's own, all of them to be scored, as it was trained to encode them.

        `trained` is the party's folder of the finished run. Raises `DataError` for a frame that lacks a column.
        """
        encoder = Encoder.from_json((trained / "encoder.json").read_text(encoding="utf-8"))
        nobody = torch.empty(0, dtype=torch.int64)
        alignment = Alignment(torch.arange(len(frame)), 0, 0, len(frame), nobody)
        rows = self._rows = Rows(Resident(*encoder.transform(frame)), alignment, None, self._spec.shared)
        self._schema = encoder.schema
        self._sit(rows, encoder.schema, mount(self._spec.defenses, self._spec.seeds, self._spec.classes))

    def _sit(self, rows: Rows, schema: TableSchema, mounts: Mounts) -> None:
        """Build this party's side of the method at a desk with these rows."""
        spec = self._spec
        self._side = self._make_side(
            Desk(
                party=spec.party,
                role=spec.role,
                publishers=spec.roster.of(Role.PUBLISHER),
                classes=spec.classes,
                schema=schema,
                widths=spec.model.widths,
                train=steered(spec.train.options(), spec.tampers),
                seeds=spec.seeds.scope("method"),
                rows=rows,
                imputer=partial(build, "impute"),
                bottom=lambda: self._bottom(mounts, schema),
                top=lambda width: mounts.wrap("top", spec.model.build_top(width, spec.classes, spec.seeds)),
                penalty=lambda step, sent: mounts.penalty(step, self.batch(step), sent) if mounts.members else None,
            )
        )
        self._restore_side()

    def alignment(self) -> Alignment:
        """Return the alignment after the cut, from the aligner or from the checkpoint that was resumed."""
        if self._resumed is None:
            self._resumed = settle(cast(Alignment, cast(Aligning, self._align).alignment), self._shard)
        self._align = None  # it holds every id of this party, and its work is done
        return self._resumed

    def training_rows(self, alignment: Alignment) -> Tensor:
        """Return the rows of this party's own table that encoders are fitted on: aligned training rows and its own."""
        return torch.cat([alignment.order[: alignment.train], alignment.only]).sort().values

    def labels(self, rows: Tensor) -> Tensor:
        """Return the labels of some handles, for this party's own defenses."""
        return cast(Rows, self._rows).labels(rows)

    def known(self, party: PartyId) -> Batch | None:
        """Return the rows of another party's columns that this one's attacks are granted, where they are of it."""
        asked = self._spec.panel
        if asked is None or asked.shard.party != party:
            return None
        if self._panel is None:
            alignment = cast(Alignment, self._resumed)
            ids = torch.from_numpy(load_ids(self._shard))[alignment.order]
            self._panel = panel(asked, ids, alignment.train)
        return self._panel

    def batch(self, step: Step) -> Batch:
        """Return this party's rows of a step."""
        return cast(Rows, self._rows).batch(step)

    def expected(self, step: Step) -> int | None:
        """Return how many aligned rows a step is about; `None` before they are known."""
        return None if self._rows is None else len(self._rows.batch(step).rows)

    def own(self, step: Step, rows: Tensor) -> Batch | None:
        """Return this party's own rows of some handles, for its defenses; `None` where it does not hold them all."""
        held, batch = cast(Rows, self._rows), self.batch(step)
        if torch.equal(batch.rows, rows):
            return batch
        return held.take(rows) if bool(held.holds(rows).all()) else None

    def parts(self) -> Parts:
        """Return the method side's modules and optimizers."""
        return cast(Side, self._side).parts

    def loose(self) -> dict[str, Tensor]:
        """Return the alignment as tensors; who holds what is kept as names and counts."""
        alignment = self.alignment()
        counts = torch.tensor([alignment.train, alignment.valid, alignment.test])
        held = {f"held.{who}": torch.tensor(count) for who, count in alignment.held.items()}
        own = self._side.loose() if isinstance(self._side, Remembers) else {}
        side = {f"side.{key}": value.detach().clone().contiguous() for key, value in own.items()}
        return {"order": alignment.order.clone(), "only": alignment.only.clone(), "counts": counts, **held, **side}

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take the alignment back instead of aligning again."""
        train, valid, test = (int(count) for count in loose["counts"])
        held = {key.removeprefix("held."): int(value) for key, value in loose.items() if key.startswith("held.")}
        self._resumed = Alignment(loose["order"], train, valid, test, loose["only"], held)
        self._remembered = {key[len("side.") :]: value for key, value in loose.items() if key.startswith("side.")}

    def _restore_side(self) -> None:
        if self._remembered and isinstance(self._side, Remembers):
            self._side.resume(self._remembered)

    def close(self) -> None:
        """Leave this party's encoded rows by handle beside its transcript: what it may look up itself, no label."""
        path = self._spec.path(TABLE_FILE)
        if path is not None and self._spec.record_every and self._rows is not None:
            save_table(path, self._rows.features(), self._schema)

    def _bottom(self, mounts: Mounts, schema: TableSchema) -> nn.Module | None:
        spec = self._spec
        bottom = spec.model.build_bottom(schema, spec.role, spec.party, spec.seeds)
        return None if bottom is None else mounts.wrap("bottom", bottom)

    def _teacher(self, schema: TableSchema, numeric: Tensor, categorical: Tensor) -> Teacher:
        """Return what trains the label owner's own network; it is initialised like the run's, and shares nothing."""
        spec = self._spec

        def build() -> nn.Module | None:
            bottom = spec.model.build_bottom(schema, spec.role, spec.party, spec.seeds)
            width = spec.model.widths.get(spec.party, 0)
            top = None if bottom is None else spec.model.build_top(width, spec.classes, spec.seeds)
            return None if bottom is None or top is None else nn.Sequential(bottom, top)

        options, seeds = spec.train.options(), spec.seeds.scope("teacher")
        return Teacher(numeric, categorical, spec.classes, build, options, seeds)


def _relabel(mounts: Mounts, labels: Tensor, training: Tensor, teacher: Teacher, epoch: int) -> Sealed[Tensor]:
    """Return labels by local row with those of training rows as the defenses make them; validation rows keep theirs."""
    made = mounts.relabel(labels[training], epoch, teacher.teach)
    if made.ndim == 2:
        weights = torch.nn.functional.one_hot(labels.clamp(min=0), mounts.classes).to(made.dtype)
        weights[training] = made
        return Sealed(weights)
    mixed = labels.clone()
    mixed[training] = made
    return Sealed(mixed)


def _training_labels(local: LocalTable, alignment: Alignment) -> Sealed[Tensor] | None:
    """Return the labels of the rows in use, those of test rows struck out (-1): the referee alone knows them."""
    if local.labels is None:
        return None
    known = torch.cat([alignment.order[: alignment.train + alignment.valid], alignment.only])
    labels = torch.full((local.rows,), -1, dtype=torch.int64)
    labels[known] = torch.from_numpy(local.labels.open())[known]
    return Sealed(labels)
