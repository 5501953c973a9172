"""Every key of a configuration with its default: frozen pydantic models that need nothing but the standard library.

A *spec* names a member of a family and holds its options: `{name: max_norm, ...}`, or the bare name where it has none.
Its options are kept as they are here; `experiments.checks` asks the member itself whether they make sense.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from experiments.problems import nearest, refusal
from experiments.rules import (
    ADVERTISER,
    PUBLISHER,
    check_holdout_by,
    check_leftover,
    not_plain,
    party_columns,
    party_names,
    refuse,
)
from vfl.errors import unknown_name


class Section(BaseModel):
    """A group of keys: frozen, nothing unknown, no silent conversion between types, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_by_name=True)


class Spec(Section):
    """A member of a family by its registered name, and its options."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1)

    @property
    def options(self) -> dict[str, Any]:
        """The member's own options: everything that is not a key of this configuration itself."""
        return copy.deepcopy(self.model_extra or {})

    @property
    def member(self) -> dict[str, Any]:
        """What `vfl.registry.build` takes: the name beside the member's own options."""
        return {"name": self.name, **self.options}

    @model_validator(mode="after")
    def _options_are_plain(self) -> Spec:
        refuse([found for key, value in (self.model_extra or {}).items() if (found := not_plain(key, value))])
        return self


def _by_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


_SHORT = BeforeValidator(_by_name, json_schema_input_type=str | dict[str, Any])
Named = Annotated[Spec, _SHORT]
"""A spec, or the bare name of a member."""


class Wire(Section):
    """How a body is written on the wire, and whether it is sealed between parties.

    `f16` and `int8` are lossy; `+feedback` adds what they took from a row of an embedding or a gradient to that row
    when it is sent again. `keys` is a folder that `vfl keys init` wrote; without one, key pairs are drawn for the run.
    """

    codec: Literal["raw", "f16", "int8", "f16+feedback", "int8+feedback"] = "raw"
    channel: Literal["auto", "on", "off"] = "auto"
    keys: str | None = None


class DataSpec(Spec):
    """The data set. `root` is the folder of data files, the environment's `VFL_DATA` where it is null."""

    name: str = Field("adult", min_length=1)
    root: str | None = None


class Holdout(Section):
    """Which rows are kept for the test and for validation, as shares of all rows.

    `by` is `random`, `official` (the set's own test rows, whatever `test` says) or `{time: COLUMN}` (the latest rows).
    """

    test: float = Field(0.25, gt=0, lt=1)
    valid: float = Field(0.1, ge=0, lt=1)
    by: Annotated[
        str | dict[str, str],
        PlainValidator(check_holdout_by),
        WithJsonSchema(
            {
                "anyOf": [
                    {"enum": ["random", "official"]},
                    {
                        "type": "object",
                        "properties": {"time": {"type": "string"}},
                        "required": ["time"],
                        "additionalProperties": False,
                    },
                ]
            }
        ),
    ] = "random"

    @model_validator(mode="after")
    def _rows_are_left(self) -> Holdout:
        total = self.test + self.valid
        refuse([("valid", refusal(total, "test + valid below 1", "lower one of them"))] if total >= 1 else [])
        return self


SPLITS = ("columns", "importance", "correlation")
"""Ways of cutting columns between parties."""


class Split(Spec):
    """Who holds which columns: `columns` lists them by party; other ways of cutting take options of their own."""

    name: str = Field("columns", min_length=1)

    @property
    def columns(self) -> dict[str, list[str]] | None:
        """The columns by party where the split lists them, else nothing."""
        return self.options if self.name == "columns" else None

    @model_validator(mode="after")
    def _parties_make_sense(self) -> Split:
        if self.name not in SPLITS:
            refuse([("name", unknown_name("split", self.name, SPLITS))])
        if self.name == "columns":
            refuse([*party_names(self.options), *party_columns(self.options)])
        return self


class AlignSpec(Spec):
    """How rows are aligned, which share of the training rows all parties hold, and who keeps each of the others."""

    name: str = Field("auto", min_length=1)
    overlap: float = Field(1.0, ge=0, le=1)
    leftover: Annotated[
        str | dict[str, float],
        PlainValidator(check_leftover),
        WithJsonSchema(
            {
                "anyOf": [
                    {"enum": ["even", PUBLISHER, ADVERTISER]},
                    {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}},
                ]
            }
        ),
    ] = "even"


class PartyModel(Section):
    """What one party's bottom differs in; null takes the run's own."""

    bottom: Named | None = None
    embedding_dim: int | None = Field(None, ge=1)


class ModelSection(Section):
    """The networks at either side of the cut; `embedding_dim` is the width of every party's embedding."""

    bottom: Named = Spec(name="mlp")
    embedding_dim: int = Field(32, ge=1)
    top: Named = Spec(name="linear")
    parties: Mapping[str, PartyModel] = Field(default_factory=dict)


class Train(Section):
    """How long and how the networks are fitted; `checkpoint_every` counts steps, and 0 writes no checkpoint.

    `stale` 1 lets publishers go on before the gradient of the round before is back (`vanilla` alone).
    `batches_per_message` has so many mini-batches share a message, for links that are slow to start (`vanilla` alone).
    `select` says which weights are tested: the last, or those with the least loss on validation rows. There is a
    validation after each epoch (`validate_every` 0) or every so many steps, and after the last. With 0 `epochs`,
    methods that also count in steps take those alone; others refuse it.

    `epoch_guard` is for columns of many ids, which click models overfit from the second epoch on: `warn` says so,
    `stop` ends each phase after one pass, `reinit_embeddings` has embedding tables drawn anew before every other pass.
    """

    epochs: int = Field(5, ge=0)
    batch_size: int = Field(256, ge=1)
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = Field(1e-3, gt=0)
    select: Literal["last", "best_valid"] = "last"
    validate_every: int = Field(0, ge=0)
    stale: Literal[0, 1] = 0
    batches_per_message: int = Field(1, ge=1)
    threads_per_party: int = Field(1, ge=1)
    epoch_guard: Literal["off", "warn", "stop", "reinit_embeddings"] = "warn"
    checkpoint_every: int = Field(200, ge=0)

    @property
    def round_rows(self) -> int:
        """How many rows a round of training goes over at most."""
        return self.batch_size * self.batches_per_message


class DefenseSpec(Spec):
    """One defense of the stack. `party` mounts it at one party; null mounts it at every party of its side."""

    party: str | None = None


class AttackSpec(Spec):
    """One attack. `as` names its entry in the results where two share a name."""

    as_: str | None = Field(None, alias="as", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")

    @property
    def key(self) -> str:
        """The name of this entry in the results."""
        return self.as_ or self.name


class HintsSection(Section):
    """What the threat model grants an adversary beyond its own view; rows it knows the answer of are never scored.

    `labelled_rows` and `known_rows` count training rows: of known class, and of known features at the parties under
    attack. `prior` is the share of each class, `scores` are those of test rows, returned to the adversary, and
    `victim_models` are the trained networks of the parties under attack (white box).
    """

    labelled_rows: int = Field(1, ge=0)
    known_rows: int = Field(0, ge=0)
    prior: bool = False
    scores: bool = False
    victim_models: bool = False


class Threat(Section):
    """Which parties look, together, and what they are granted: the only grant there is."""

    adversaries: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = (PUBLISHER,)
    hints: HintsSection = HintsSection()


class Record(Section):
    """Which steps the transcript holds (0 records nothing), how large it may grow, and how long it is kept."""

    every: int = Field(1, ge=0)
    max_mb: int = Field(512, ge=1)
    keep: Literal["run", "marks"] = "run"


class FaultsSection(Section):
    """What links and machines do to the run, as chances for each message; a run computes the same whatever happens.

    `loss` is of a message or its answer, which is then sent again up to `retries` times; `crash` is of its party, which
    then goes on from its checkpoint, up to `restarts` times in a run. A party that says nothing for `timeout_s` counts
    as gone (with ray; in one process parties cannot hang apart). A party gone for good ends the run (`without: stop`);
    with `impute`, the advertiser goes on with the mean embedding that it last had of that publisher.
    """

    latency_ms: float = Field(0.0, ge=0)
    loss: float = Field(0.0, ge=0, lt=1)
    duplicate: float = Field(0.0, ge=0, lt=1)
    crash: float = Field(0.0, ge=0, lt=1)
    retries: int = Field(8, ge=0)
    restarts: int = Field(2, ge=0)
    timeout_s: float = Field(600.0, gt=0)
    without: Literal["stop", "impute"] = "stop"


Reference = Literal["advertiser_alone", "central", "honest"]
NORM, DIRECTION = AttackSpec(name="norm"), AttackSpec.model_validate({"name": "direction", "hints": 1})


class Config(Section):
    """One run: what is asked, and nothing of where it goes or on how many machines it is computed."""

    seed: int = Field(0, ge=0, lt=2**63)
    backend: Literal["ray", "local"] = "ray"
    transport: Literal["direct", "relay"] = "direct"
    wire: Wire = Wire()
    data: Annotated[DataSpec, _SHORT] = DataSpec()
    holdout: Holdout = Holdout()
    split: Annotated[Split, _SHORT] | None = None
    align: Annotated[AlignSpec, _SHORT] = AlignSpec()
    model: ModelSection = ModelSection()
    method: Named = Spec(name="vanilla")
    train: Train = Train()
    defense: Annotated[tuple[Annotated[DefenseSpec, _SHORT], ...], Field(strict=False)] = ()
    attack: Annotated[tuple[Annotated[AttackSpec, _SHORT], ...], Field(strict=False)] = (NORM, DIRECTION)
    threat: Threat = Threat()
    record: Record = Record()
    faults: FaultsSection = FaultsSection()
    references: Annotated[tuple[Reference, ...], Field(strict=False)] = ("advertiser_alone", "central")

    @property
    def aligner(self) -> dict[str, Any]:
        """The spec of the aligner that `align.name` stands for: `auto` is `ecdh_psi` for csv, `plain` otherwise."""
        if self.align.name != "auto":
            return self.align.member
        return {"name": "ecdh_psi" if self.data.name == "csv" else "plain", **self.align.options}

    @property
    def sealed(self) -> bool:
        """Whether envelopes are encrypted between parties: `auto` is on with ray and off with local."""
        return self.backend == "ray" if self.wire.channel == "auto" else self.wire.channel == "on"

    @field_validator("references")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            refuse([("", refusal(value, "each reference once", "remove the second one"))])
        return value

    @model_validator(mode="after")
    def _sections_agree(self) -> Config:
        refuse(
            [
                *_attack_keys(self.attack),
                *_recording(self),
                *_selecting(self),
                *_staleness(self),
                *_lasting(self),
                *_unknown_parties(self),
            ]
        )
        return self


def _attack_keys(attacks: Sequence[AttackSpec]) -> list[tuple[str, str]]:
    keys = [attack.key for attack in attacks]
    return [
        (f"attack.{index}", refusal(key, "one entry of each name", f"add `as: {key}_{index}` to this entry"))
        for index, key in enumerate(keys)
        if key in keys[:index]
    ]


def _recording(config: Config) -> list[tuple[str, str]]:
    if config.record.every or not config.attack:
        return []
    return [("record.every", refusal(0, "1 or more where there are attacks", "set attack=[] or record every 1"))]


def _staleness(config: Config) -> list[tuple[str, str]]:
    """Refuse late gradients where a method has none, and checkpoints that a round under way would be missing from."""
    train, method = config.train, config.method.name
    if train.batches_per_message > 1 and (method != "vanilla" or train.stale):
        allowed = f"1 with method {method}" if method != "vanilla" else "1 with train.stale above 0"
        return [("train.batches_per_message", refusal(train.batches_per_message, allowed, "remove one of the two"))]
    if not train.stale:
        return []
    if method != "vanilla":
        return [("train.stale", refusal(1, f"0 with method {method}", "remove it, or use vanilla"))]
    if config.train.checkpoint_every:
        allowed, advice = "0 with train.checkpoint_every above 0", "set train.checkpoint_every to 0"
        return [("train.stale", refusal(1, allowed, advice))]
    return []


def _selecting(config: Config) -> list[tuple[str, str]]:
    if config.train.select == "last" or config.holdout.valid > 0:
        return []
    advice = "set holdout.valid above 0 or train.select=last"
    return [("train.select", refusal(config.train.select, "last where no rows are held out to choose by", advice))]


def _lasting(config: Config) -> list[tuple[str, str]]:
    if config.train.epochs or not config.references:
        return []
    return [("train.epochs", refusal(0, "1 or more where there are references", "raise it or set references=[]"))]


def _unknown_parties(config: Config) -> list[tuple[str, str]]:
    columns = config.split.columns if config.split else None
    if columns is None:
        return []
    roles = [PUBLISHER, ADVERTISER]
    named = [(f"model.parties.{party}", party, []) for party in config.model.parties]
    named += [(f"defense.{i}.party", spec.party, roles) for i, spec in enumerate(config.defense) if spec.party]
    named += [(f"threat.adversaries.{i}", party, roles) for i, party in enumerate(config.threat.adversaries)]
    if isinstance(config.align.leftover, dict):
        named += [(f"align.leftover.{party}", party, []) for party in config.align.leftover]
    known = list(columns)
    return [
        (key, refusal(party, f"a party of the split ({', '.join(known)})", nearest(party, known, "name one of these")))
        for key, party, also in named
        if party not in known and party not in also
    ]
