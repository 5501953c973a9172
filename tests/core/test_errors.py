"""The exception tree: what a user reads, what survives a process boundary, and the exit codes."""

from __future__ import annotations

import copy
import pickle

import pytest

from vfl import errors
from vfl.errors import (
    ConfigError,
    DataError,
    IntegrityError,
    InterruptedRunError,
    PartyError,
    PartyGoneError,
    PeekError,
    RegistryError,
    ThreatError,
    UserError,
    VflError,
    WireError,
    unknown_name,
)

USER = [UserError, ConfigError, DataError, RegistryError, ThreatError]
OTHER = [VflError, WireError, IntegrityError, PeekError, PartyError, PartyGoneError, InterruptedRunError]


def tree(kind: type[VflError]) -> set[type[VflError]]:
    return {kind, *(found for child in kind.__subclasses__() for found in tree(child))}


def test_the_tree_is_the_one_in_the_docstring():
    ours = {kind for kind in tree(VflError) if kind.__module__ == "vfl.errors"}
    assert ours == {*USER, *OTHER}
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in ours)
    assert all(issubclass(kind, UserError) for kind in USER)
    assert not any(issubclass(kind, UserError) for kind in OTHER)


@pytest.mark.parametrize("kind", USER)
@pytest.mark.parametrize("travel", [lambda it: pickle.loads(pickle.dumps(it)), copy.copy, copy.deepcopy])
def test_a_user_error_arrives_whole(kind, travel):
    sent = kind("got 3, allowed 1 or 2; choose one", key="train.epochs", where="run.yaml")
    got = travel(sent)
    assert type(got) is kind
    assert (got.message, got.key, got.where) == (sent.message, sent.key, sent.where)
    assert str(got) == "run.yaml: train.epochs: got 3, allowed 1 or 2; choose one"


@pytest.mark.parametrize("kind", OTHER)
def test_other_errors_arrive_whole(kind):
    got = pickle.loads(pickle.dumps(kind("it died")))
    assert type(got) is kind
    assert str(got) == "it died"


@pytest.mark.parametrize(
    ("key", "where", "text"),
    [("", "", "m"), ("k", "", "k: m"), ("", "w", "w: m"), ("k", "w", "w: k: m")],
)
def test_only_what_is_known_is_in_front(key, where, text):
    assert str(ConfigError("m", key=key, where=where)) == text


def test_at_fills_in_what_was_not_known_deeper_down():
    deep = DataError("m", key="age")
    filled = deep.at(key="data", where="run.yaml")
    assert type(filled) is DataError
    assert (filled.key, filled.where) == ("age", "run.yaml")
    assert (deep.key, deep.where) == ("age", "")
    assert str(ConfigError("m").at(key="a").at(key="b", where="f")) == "f: a: m"


def test_exit_codes():
    assert {kind.exit_code for kind in USER} == {2}
    assert [kind.exit_code for kind in OTHER] == [1, 3, 3, 2, 3, 3, 130]


def test_unknown_name_says_the_nearest_and_all():
    assert unknown_name("defense", "maxnorm", ["max_norm", "marvell"]) == (
        "no defense named 'maxnorm'; did you mean 'max_norm'? (known: marvell, max_norm)"
    )
    assert unknown_name("defense", "zzz", ["b", "a"]) == "no defense named 'zzz'; (known: a, b)"
