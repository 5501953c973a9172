"""What a party is told, as a JSON file on the party's own machine: references and options, its own secrets, no data.

The file holds the party's random streams, which its defenses draw noise from, so it is for its owner alone (mode 600).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from parties.entry import Limits
from parties.spec import ModelSpec, PartySpec, TrainSpec
from vfl.data.cut import RowCut, Shard
from vfl.errors import DataError
from vfl.grid import Roster
from vfl.identity import stored
from vfl.seeds import Seeds
from vfl.types import Role

_PLAIN = ("party", "classes", "align", "method", "codec", "feedback", "channel", "record_every", "encoding")


def write(path: Path, spec: PartySpec, run: str) -> None:
    """Write a party's file. Key files are looked for in `keys` beside it, and its folder is where the file is."""
    value: dict[str, Any] = {name: _json(getattr(spec, name)) for name in _PLAIN}
    value |= {"role": spec.role.value, "roster": [[party, role.value] for party, role in spec.roster.members]}
    value |= {"model": _json(asdict(spec.model)), "train": asdict(spec.train), "limits": asdict(spec.limits)}
    value |= {"seeds": _json(spec.seeds.root), "shared": _json(spec.shared.root)}
    value |= {"defenses": [_json(each) for each in spec.defenses], "run": run}
    value["shard"] = None if spec.shard is None else _shard(spec.shard)
    text = json.dumps(value, indent=1).encode()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(text)


def read(path: Path) -> PartySpec:
    """Return the spec of a party's file; raises `DataError` for what `write` did not write."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        spec = PartySpec(
            **{name: _value(value[name]) for name in _PLAIN},
            role=Role(value["role"]),
            roster=Roster(tuple((party, Role(role)) for party, role in value["roster"])),
            shard=None if value["shard"] is None else _read_shard(value["shard"]),
            model=ModelSpec(**value["model"]),
            train=TrainSpec(**value["train"]),
            seeds=Seeds(_value(value["seeds"])),
            shared=Seeds(_value(value["shared"])),
            defenses=tuple(value["defenses"]),
            limits=Limits(**value["limits"]),
            folder=str(path.parent),
        )
        run = str(value["run"])
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=str(path)) from None
    except (ValueError, KeyError, TypeError) as error:
        message = f"is no party file ({type(error).__name__}); run `vfl deploy init` again"
        raise DataError(message, where=str(path)) from None
    return replace(spec, credentials=stored(run, path.parent / "keys", spec.party)) if spec.channel else spec


def _shard(shard: Shard) -> dict[str, Any]:
    """Return a shard as JSON. Of a keyed source, the files of other parties are left out: they are not this party's."""
    apart = ("cut", "role", "known")
    plain = {field.name: getattr(shard, field.name) for field in fields(shard) if field.name not in apart}
    source = dict(shard.source)
    if shard.keyed:
        own, theirs = shard.party, source.get("publisher")
        if isinstance(theirs, Mapping):
            source["publisher"] = {party: file if party == own else "" for party, file in theirs.items()}
        elif own != "publisher":
            source["publisher"] = ""
        source["advertiser"] = source["advertiser"] if shard.owns_label else ""
    cut = {field.name: _json(getattr(shard.cut, field.name)) for field in fields(shard.cut)}
    return {**plain, "source": _json(source), "role": shard.role.value, "cut": cut}


def _read_shard(value: Mapping[str, Any]) -> Shard:
    cut: dict[str, Any] = {name: _value(each) for name, each in value["cut"].items()}
    cut["publishers"] = tuple(cut["publishers"])
    plain: dict[str, Any] = {**value, "role": Role(value["role"]), "columns": tuple(value["columns"])}
    plain["cut"] = RowCut(**cut)
    return Shard(**plain)


def _json(value: Any) -> Any:  # noqa: ANN401 - options of any member
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Mapping):
        return {key: _json(each) for key, each in value.items()}
    return [_json(each) for each in value] if isinstance(value, list | tuple) else value


def _value(value: Any) -> Any:  # noqa: ANN401 - what `_json` gave
    if isinstance(value, dict) and set(value) == {"bytes"}:
        return bytes.fromhex(value["bytes"])
    return value
