"""One resolved configuration -> what each party is told, and what the coordinator plays."""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from experiments import apart
from experiments.asked_needs import needs_of
from experiments.problems import refusal
from experiments.roots import data_root
from experiments.schema import ADVERTISER, PUBLISHER, Config
from parties.entry import Limits
from parties.faults import Faults
from parties.spec import ModelSpec, Panel, PartySpec, TrainSpec
from parties.survey import Survey, survey, survey_apart
from vfl.align import Aligner, Foretold
from vfl.coordinator import Plan
from vfl.data import Described, Keyed, Located, Source
from vfl.data.checks import check_columns, check_split
from vfl.data.cut import RowCut, Shard
from vfl.data.partition import partition
from vfl.data.shard import frames, official_test
from vfl.data.tables import column
from vfl.data.timing import by_time
from vfl.errors import ConfigError, DataError, ThreatError
from vfl.grid import Roster
from vfl.identity import drawn, stored
from vfl.methods import Method
from vfl.registry import build, find
from vfl.seeds import Seeds
from vfl.store import recorded_bytes
from vfl.types import PartyId, Role
from vfl.wire import Codec

REFEREE = "referee"
HANDLE_BYTES = 4
FEEDBACK = "+feedback"
"""How the name of a codec ends whose losses are fed back."""


@dataclass(frozen=True, slots=True)
class World:
    """The data set of a run and how it is cut: who holds which columns and rows. Holds no value of the table.

    `tables` are the parties' own, where each brings one.
    """

    described: Described
    columns: Mapping[PartyId, tuple[str, ...]]
    cut: RowCut
    root: Path | None
    source: Mapping[str, Any]
    keyed: bool = False
    tables: Mapping[PartyId, Described] = field(default_factory=dict[PartyId, Described])

    @property
    def publishers(self) -> tuple[PartyId, ...]:
        """The publishers' ids, in the order of the split."""
        return tuple(party for party in self.columns if party != ADVERTISER)


def open_world(config: Config) -> World:
    """Describe the data set and cut it; raises `DataError` or `ConfigError` before anything is loaded.

    On Ray, where parties are processes of their own, a set whose rows must be read for it is read by another process.
    """
    keyed = isinstance(build("data", config.data.member), Keyed)
    measured = config.split is not None and config.split.columns is None
    reads = keyed or measured or isinstance(config.holdout.by, dict)
    return cast(World, apart.describe(config)) if reads and config.backend == "ray" else read_world(config)


def read_world(config: Config) -> World:
    """Describe the data set and cut it, in this process."""
    path = data_root(config.data.root)
    source: Source = build("data", config.data.member)
    described, tables = _describe(config, source, path)
    columns = _columns(config, source, described, path) if not tables else _columns_of_files(config, described, tables)
    ordered = {party: names for party, names in columns.items() if party != ADVERTISER}
    ordered[ADVERTISER] = columns[ADVERTISER]
    _check_parties(config, tuple(ordered))
    _check_classes(config, described)
    cut = _cut(config, source, tables.get(ADVERTISER, described), path, tuple(ordered)[:-1])
    located = source.located(path) if isinstance(source, Located) else config.data.options
    named = {"name": config.data.name, **located}
    world = World(described, ordered, cut, path, named, isinstance(source, Keyed), tables)
    _check_messages(config, world)
    return world


def _check_messages(config: Config, world: World) -> None:
    """Refuse tables that an aligner cannot match in one message, before anybody has masked an id."""
    aligner: Aligner = build("align", config.aligner)
    if not isinstance(aligner, Foretold):
        return
    asked, listed = _most_rows(world)
    needed, allowed = aligner.answer_bytes(asked, listed), Limits().message_bytes
    if needed <= allowed:
        return
    got = f"got {config.aligner['name']} over {asked:,} rows of the advertiser and {listed:,} of a publisher"
    size = f"a message of {needed / 2**20:,.0f} MiB, allowed {allowed / 2**20:,.0f}"
    raise ConfigError(f"{got}, {size}; match fewer rows, or set align.name=plain where ids are no secret", key="align")


def _most_rows(world: World) -> tuple[int, int]:
    """Return the rows of the advertiser's table, and of the largest of a publisher's; at most those of a shared set."""
    rows = {party: world.tables[party].rows if world.keyed else world.described.rows for party in world.columns}
    return rows[ADVERTISER], max((rows[party] for party in world.publishers), default=0)


def _describe(config: Config, source: Source, root: Path | None) -> Survey:
    """Describe a data set; files that parties bring are read by no process that drives actors."""
    if not isinstance(source, Keyed):
        return source.describe(root), {}
    return (survey_apart if config.backend == "ray" else survey)(config.data.member, root)


def roster(world: World) -> Roster:
    """Return who takes part: the publishers, the advertiser, the referee."""
    members = [(party, Role.PUBLISHER) for party in world.publishers]
    return Roster((*members, (ADVERTISER, Role.ADVERTISER), (REFEREE, Role.REFEREE)))


def party_specs(config: Config, world: World, folder: Path | None) -> list[PartySpec]:
    """Return what each party is told; `folder` is the run directory, `None` writes nothing."""
    seeds, people = Seeds(config.seed), roster(world)
    widths = {party: _width(config, party) for party, columns in world.columns.items() if columns}
    return [
        PartySpec(
            party=party,
            role=role,
            roster=people,
            classes=len(world.described.classes),
            shard=_shard(config, world, party, role),
            align=config.aligner,
            method=config.method.member,
            model=ModelSpec(_bottom(config, party), config.model.top.member, widths),
            train=_train_spec(config),
            seeds=seeds.scope("party", party),
            shared=seeds.scope("shared"),
            defenses=_defenses(config, party, role),
            tampers=_tampers(config, world, party),
            panel=_panel(config, world, party),
            codec=cast(Codec, config.wire.codec.removesuffix(FEEDBACK)),
            feedback=config.wire.codec.endswith(FEEDBACK),
            channel=config.sealed,
            record_every=config.record.every if role != Role.REFEREE else 0,
            folder=None if folder is None else str(party_folder(folder, party)),
        )
        for party, role in people.members
    ]


def with_credentials(config: Config, specs: Sequence[PartySpec]) -> list[PartySpec]:
    """Return the specs with what each party signs its greeting by: its key file, or a key drawn for this run.

    Raises `DataError` where `wire.keys` lacks a party's keys. Nothing is added where envelopes are not sealed.
    """
    if not config.sealed:
        return list(specs)
    run, parties = secrets.token_hex(16), tuple(spec.party for spec in specs)
    if config.wire.keys is None:
        found = drawn(run, parties)
    else:
        folder = Path(config.wire.keys).resolve()
        found = {party: stored(run, folder, party) for party in parties}
        absent = [party for party in parties if party not in found[party].registry]
        if absent:
            message = f"got no public key of {', '.join(absent)}; run `vfl keys init {folder} {' '.join(absent)}`"
            raise DataError(message, key="wire.keys", where=str(folder))
    return [replace(spec, credentials=found[spec.party]) for spec in specs]


def party_folder(run: Path, party: PartyId) -> Path:
    """Return the folder of a run directory that a party alone may hold."""
    return run / REFEREE if party == REFEREE else run / "parties" / party


def coordinator_plan(config: Config) -> Plan:
    """Return what the coordinator plays."""
    aligner: Aligner = build("align", config.aligner)
    method: Method = build("method", config.method.member)
    phases = method.phases(_train_spec(config).options())
    return Plan(
        align=aligner.hops,
        phases=phases,
        evaluate=method.evaluate,
        checkpoint_every=config.train.checkpoint_every,
        select=config.train.select,
        validate_every=config.train.validate_every,
        guard=config.train.epoch_guard,
        restarts=config.faults.restarts,
        without=config.faults.without,
    )


def faults(config: Config) -> Faults:
    """Return what links and machines do to the run."""
    asked = config.faults
    return Faults(asked.latency_ms / 1000, asked.loss, asked.duplicate, asked.crash, asked.retries)


def _train_spec(config: Config) -> TrainSpec:
    train = config.train
    return TrainSpec(
        train.epochs,
        train.batch_size,
        train.optimizer,
        train.lr,
        train.threads_per_party,
        stale=train.stale,
        several=train.batches_per_message,
        select=train.select,
        validate_every=train.validate_every,
    )


def adversaries(config: Config, world: World) -> tuple[PartyId, ...]:
    """Return the parties that look, together: `publisher` stands for all publishers where no party has that name."""
    found: list[PartyId] = []
    for name in config.threat.adversaries:
        found += world.publishers if name == PUBLISHER and name not in world.columns else [name]
    return tuple(dict.fromkeys(found))


def largest_body_bytes(config: Config, world: World) -> int:
    """Return the size of the largest body that a training round of the run sends."""
    widest = max((_width(config, party) for party in world.publishers), default=1)
    return config.train.round_rows * (4 * widest + HANDLE_BYTES)


def check_transcript(config: Config, world: World) -> None:
    """Refuse a run whose transcript would outgrow `record.max_mb`, naming the `every` that would fit."""
    pools = world.cut.pools()
    train, valid, test = (int((pools == code).sum()) for code in range(3))
    widths = sum(_width(config, party) for party in world.publishers)
    steps = config.train.epochs * -(-train // config.train.round_rows)
    per_step = min(config.train.round_rows, train) * (8 * widths + 2 * HANDLE_BYTES * len(world.publishers))
    evaluated = 2 * (valid * config.train.epochs + test) * (4 * widths + HANDLE_BYTES)
    limit = config.record.max_mb * 2**20

    def total(every: int) -> int:
        return recorded_bytes(steps, every, per_step) + (evaluated // every if every else 0)

    if total(config.record.every) > limit:
        rarest = steps + evaluated + 1  # records the first round and no other
        fits = bisect_left(range(rarest), True, lo=config.record.every, key=lambda every: total(every) <= limit)
        advice = f"set record.every={fits}" if fits < rarest else "lower train.batch_size or model.embedding_dim"
        got = f"a transcript of {total(config.record.every) / 2**20:.0f} MB"
        raise ConfigError(f"got {got}, allowed {config.record.max_mb}; {advice}", key="record.max_mb")


def _cut(
    config: Config, source: Source, described: Described, root: Path | None, publishers: tuple[PartyId, ...]
) -> RowCut:
    test_rows, valid_rows = official_test(source, root) if config.holdout.by == "official" else b"", b""
    if isinstance(config.holdout.by, dict):
        test_rows, valid_rows = _by_time(config, source, described, root)
    return RowCut(
        rows=described.rows,
        seed=Seeds(config.seed).at("split"),
        test=config.holdout.test,
        valid=config.holdout.valid,
        overlap=1.0 if getattr(find("method", config.method.name), "all_aligned", False) else config.align.overlap,
        leftover=config.align.leftover,
        publishers=publishers,
        test_rows=test_rows,
        valid_rows=valid_rows,
    )


def _columns(config: Config, source: Source, described: Described, root: Path | None) -> dict[PartyId, tuple[str, ...]]:
    """Return each party's columns: as written, as the data set cuts itself, or as a partition deals them."""
    if config.split is None or config.split.columns is not None:
        written = described.split if config.split is None else config.split.columns
        columns = {party: tuple(names) for party, names in (written or {}).items()}
    else:
        seeds = Seeds(config.seed).scope("split")
        columns = partition(config.split.member).deal(
            described.columns, lambda names: next(frames(source, names, root)), seeds
        )
    for party, names in columns.items():
        _check_columns(party, names, described.columns)
    return columns


def _columns_of_files(
    config: Config, described: Described, tables: Mapping[PartyId, Described]
) -> dict[PartyId, tuple[str, ...]]:
    for party, names in described.split.items():
        if party != ADVERTISER and not names:
            (file,) = tables[party].files
            raise DataError(
                "got no column beside the key, allowed one or more; name a file that has some", where=str(file)
            )
    if config.split is None:
        return dict(described.split)
    if config.split.columns is None or set(config.split.columns) != set(described.split):
        got = f"got split {config.split.name!r} of {', '.join(config.split.columns or ('nobody in particular',))}"
        allowed = f"allowed columns of {', '.join(described.split)}, who bring a file each"
        raise ConfigError(f"{got}, {allowed}; name these parties or leave split out", key="split")
    for party, names in config.split.columns.items():
        _check_columns(party, tuple(names), tables[party].columns)
    return {party: tuple(names) for party, names in config.split.columns.items()}


def _by_time(config: Config, source: Source, described: Described, root: Path | None) -> tuple[bytes, bytes]:
    name = cast("dict[str, str]", config.holdout.by)["time"]
    check_columns([name], (*described.columns, *described.times), where="holdout.by.time")
    table = source.of(ADVERTISER, described) if isinstance(source, Keyed) else source
    return by_time(column(table.read([name], root), name), name, config.holdout.test, config.holdout.valid)


def _shard(config: Config, world: World, party: PartyId, role: Role) -> Shard | None:
    if role == Role.REFEREE:
        return None
    return Shard(
        source=world.source,
        root=None if world.root is None else str(world.root),
        party=party,
        role=role,
        columns=world.columns[party],
        owns_label=role == Role.ADVERTISER,
        cut=world.cut,
        keyed=world.keyed,
        known=world.tables.get(party),
    )


def _bottom(config: Config, party: PartyId) -> Mapping[str, Any]:
    own = config.model.parties.get(party)
    return (own.bottom if own and own.bottom else config.model.bottom).member


def _width(config: Config, party: PartyId) -> int:
    own = config.model.parties.get(party)
    return own.embedding_dim if own and own.embedding_dim else config.model.embedding_dim


def _defenses(config: Config, party: PartyId, role: Role) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        spec.member
        for spec in config.defense
        if (spec.party in (party, role.value) if spec.party else build("defense", spec.member).side == role)
    )


def _tampers(config: Config, world: World, party: PartyId) -> tuple[Mapping[str, Any], ...]:
    """Return the active attacks of a party: those of the run, where it is the adversary."""
    if party not in adversaries(config, world):
        return ()
    return tuple(spec.member for spec in config.attack if needs_of(spec).active)


def _panel(config: Config, world: World, party: PartyId) -> Panel | None:
    """Return the rows that a party's active attacks are granted in training, of the first party under attack."""
    looking = adversaries(config, world)
    needed = [needs_of(spec) for spec in config.attack]
    asked = max((each.known_rows for each in needed if each.active), default=0)
    under_attack = [each for each in world.publishers if world.columns[each] and each not in looking]
    if party != ADVERTISER or party not in looking or not asked or not under_attack:
        return None
    shard = _shard(config, world, min(under_attack), Role.PUBLISHER)
    if shard is None or shard.keyed:
        message = refusal(config.data.name, "a built-in set with attacks that know rows in training", "drop the attack")
        raise ThreatError(message, key="attack")
    return Panel(shard, {}, asked, Seeds(config.seed).scope("hints"))


def _check_columns(party: PartyId, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    if party == ADVERTISER and not names:
        return  # it may hold the label alone
    try:
        check_split({party: names}, known)
    except DataError as error:
        got = f"column {error.key!r}: " if error.key != party else ""
        raise DataError(f"{got}{error.message}", key=f"split.{party}") from None


def _check_parties(config: Config, parties: tuple[PartyId, ...]) -> None:
    known = (*parties, PUBLISHER, ADVERTISER)
    named = [(f"threat.adversaries.{place}", party) for place, party in enumerate(config.threat.adversaries)]
    named += [(f"model.parties.{party}", party) for party in config.model.parties]
    named += [(f"defense.{place}.party", spec.party) for place, spec in enumerate(config.defense) if spec.party]
    for key, party in named:
        if party not in known:
            raise ConfigError(f"got {party!r}, allowed {', '.join(parties)}; name one of these", key=key)


def _check_classes(config: Config, described: Described) -> None:
    if len(described.classes) == 2:
        return
    got = f"got {len(described.classes)} classes in {config.data.name!r}"
    for place, spec in enumerate(config.defense):
        if build("defense", spec.member).binary_only:
            message = f"{got}, allowed 2 with defense {spec.name!r}; choose another defense"
            raise ConfigError(message, key=f"defense.{place}.name")
    asked = config.attack if "attack" in config.model_fields_set else ()  # the default ones are left out instead
    for place, spec in enumerate(asked):
        if needs_of(spec).binary_only:
            message = f"{got}, allowed 2 with attack {spec.name!r}; set attack=[] or choose another"
            raise ConfigError(message, key=f"attack.{place}.name")
