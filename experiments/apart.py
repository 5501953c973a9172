"""Describes and cuts a data set in a process of its own.

Whoever coordinates a run on Ray then has no id and no label in its memory, nor what is left of one that was freed.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

from experiments.schema import Config
from vfl.errors import PartyError, UserError

_CODE = (
    "import json, sys; told = json.load(sys.stdin); sys.path[:] = told['path']; "
    "from experiments import apart; apart.answer(told['config'])"
)


def describe(config: Config) -> object:
    """Return the `World` that `plan.open_world` returns here, read by another process; raises what it raises there."""
    told = json.dumps({"config": config.model_dump(mode="json", by_alias=True), "path": sys.path})
    found = subprocess.run([sys.executable, "-c", _CODE], input=told.encode(), stdout=subprocess.PIPE, check=False)
    if not found.stdout:
        raise PartyError("the process that describes the data died; what it said is above")
    world: object = pickle.loads(found.stdout)  # of our own process, with our own rights
    if isinstance(world, UserError):
        raise world
    return world


def answer(told: dict[str, object]) -> None:
    """Write the pickled `World` of a configuration, or the error that its user can mend, to standard output."""
    from experiments.plan import read_world

    try:
        found: object = read_world(Config.model_validate(told))
    except UserError as error:
        found = error
    sys.stdout.buffer.write(pickle.dumps(found))
