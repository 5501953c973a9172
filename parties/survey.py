"""Describe a data set whose parties bring files of their own, in a process that ends with it: whoever asks sees no row.

What comes back are names, types and counts; the label's classes by name, but of no row.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from vfl.data import Described, Keyed, Source
from vfl.errors import PartyError, VflError
from vfl.registry import build
from vfl.types import PartyId

Survey = tuple[Described, Mapping[PartyId, Described]]
"""What a data set is as a whole, and every party's own table."""


def survey(member: Mapping[str, Any], root: Path | None) -> Survey:
    """Describe a keyed data set here; raises what its `describe` raises."""
    source: Source = build("data", member)
    whole, keyed = source.describe(root), cast(Keyed, source)
    return whole, {party: keyed.of(party).describe(root) for party in whole.split}


def survey_apart(member: Mapping[str, Any], root: Path | None) -> Survey:
    """Describe it in another process; raises what is raised there, and `PartyError` where that process dies."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-m", "parties.survey"],
        input=pickle.dumps((dict(member), root)),
        stdout=subprocess.PIPE,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise PartyError(f"the process that describes the data died ({done.returncode}); run the command again")
    found: Survey | VflError = pickle.loads(done.stdout)
    if isinstance(found, VflError):
        raise found
    return found


def _answer(asked: bytes) -> bytes:
    try:
        return pickle.dumps(survey(*pickle.loads(asked)))
    except VflError as error:
        return pickle.dumps(error)


if __name__ == "__main__":
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    with os.fdopen(answers, "wb") as stream:
        stream.write(_answer(sys.stdin.buffer.read()))
