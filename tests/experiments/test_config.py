from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config import (
    Config,
    ConfigErrors,
    Origin,
    check_members,
    dump,
    json_schema,
    load,
    origin_of,
    parse,
    read_set,
    resolved,
    run_id,
)
from vfl.errors import ConfigError, RegistryError, ThreatError, UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def lines(error: pytest.ExceptionInfo[UserError]) -> list[str]:
    return str(error.value).splitlines()


def test_the_default_run_has_the_keys_and_values_of_the_design():
    assert resolved(load()) == {
        "seed": 0,
        "backend": "ray",
        "transport": "direct",
        "wire": {"codec": "raw", "channel": "auto", "keys": None},
        "data": {"name": "adult", "root": None},
        "holdout": {"test": 0.25, "valid": 0.1, "by": "random"},
        "split": None,
        "align": {"name": "auto", "overlap": 1.0, "leftover": "even"},
        "model": {"bottom": {"name": "mlp"}, "embedding_dim": 32, "top": {"name": "linear"}, "parties": {}},
        "method": {"name": "vanilla"},
        "train": {
            "epochs": 5,
            "batch_size": 256,
            "optimizer": "adam",
            "lr": 1e-3,
            "select": "last",
            "validate_every": 0,
            "stale": 0,
            "batches_per_message": 1,
            "threads_per_party": 1,
            "epoch_guard": "warn",
            "checkpoint_every": 200,
        },
        "defense": [],
        "attack": [{"name": "norm", "as": None}, {"name": "direction", "as": None, "hints": 1}],
        "threat": {
            "adversaries": ["publisher"],
            "hints": {"labelled_rows": 1, "known_rows": 0, "prior": False, "scores": False, "victim_models": False},
        },
        "record": {"every": 1, "max_mb": 512, "keep": "run"},
        "faults": {
            "latency_ms": 0.0,
            "loss": 0.0,
            "duplicate": 0.0,
            "crash": 0.0,
            "retries": 8,
            "restarts": 2,
            "timeout_s": 600.0,
            "without": "stop",
        },
        "references": ["advertiser_alone", "central"],
    }


def test_an_empty_file_is_the_default_run(write):
    assert load(write("")) == load(write("# nothing\n")) == load()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("[rt]*/*.yaml")), ids=lambda path: path.name)
def test_every_shipped_run_and_threat_passes_the_check(path):
    check_members(load(path), origin_of(path))


def test_the_default_run_written_out_is_the_default_run():
    assert load(ROOT / "configs" / "run" / "adult.yaml") == load()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2E+3", -2000.0),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("+3", 3),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("12:30:00", "12:30:00"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("=", "="),
        ("[a, 1, {b: no}]", ["a", 1, {"b": "no"}]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    key, read = read_set(f"a={text}")
    assert key == "a"
    assert read == value
    assert type(read) is type(value)


def test_infinity_is_read_and_then_refused():
    assert read_set("a=.inf")[1] == math.inf
    with pytest.raises(ConfigError, match=r"method\.beta: got inf, allowed a finite number"):
        load(None, ["method.beta=.inf"])


BAD = [
    ("sed: 1", "sed: no key named 'sed'; did you mean 'seed'?"),
    ("train: {epoch: 1}", "train.epoch: no key named 'epoch'; did you mean 'epochs'?"),
    (
        "model: {parties: {publisher: {botom: mlp}}}",
        "model.parties.publisher.botom: no key named 'botom'; did you mean",
    ),
    ("seed: '1'", "seed: got '1', allowed a whole number; write it without quotes"),
    ("seed: true", "seed: got true, allowed a whole number"),
    ("seed: 1.5", "seed: got 1.5, allowed a whole number"),
    ("seed: -1", "seed: got -1, allowed 0 or more"),
    ("train: {lr: 0}", "train.lr: got 0, allowed a number above 0"),
    ("train: {stale: 2}", "train.stale: got 2, allowed 0 or 1"),
    ("train: {stale: 1}", "train.stale: got 1, allowed 0 with train.checkpoint_every above 0"),
    ("{method: celu, train: {stale: 1}}", "train.stale: got 1, allowed 0 with method celu"),
    ("train: 3", "train: got 3, allowed a mapping of keys"),
    ("backend: rya", "backend: got 'rya', allowed ray or local; did you mean 'ray'?"),
    ("wire: {codec: f32}", "wire.codec: got 'f32', allowed raw, f16, int8, f16+feedback or int8+feedback"),
    (
        "holdout: {by: {tim: day}}",
        "holdout.by: got {'tim': 'day'}, allowed random, stratified, official or {time: COLUMN}",
    ),
    ("holdout: {test: .7, valid: .3}", "holdout.valid: got 1.0, allowed test + valid below 1"),
    ("split: {publisher: [a]}", "split: got ['publisher'], allowed exactly one party named 'advertiser'; add"),
    ("split: {publisher: [a], advertizer: [b]}", "split: got ['publisher', 'advertizer'], allowed exactly one party"),
    ("split: {a b: [x], advertiser: []}", "split.a b: got 'a b', allowed a party name"),
    ("split: {referee: [x], advertiser: []}", "split.referee: got 'referee', allowed a party name"),
    ("split: {publisher: age, advertiser: []}", "split.publisher: got 'age', allowed a list of column names"),
    ("split: {publisher: [a, a], advertiser: []}", "split.publisher: got 'a', allowed each column once"),
    ("split: {publisher: [], advertiser: [a]}", "split.publisher: got [], allowed at least one column"),
    ("split: random", "split.name: no split named 'random'"),
    ("align: {overlap: 1.1}", "align.overlap: got 1.1, allowed 1 or less"),
    ("align: {leftover: {publisher: .5}}", "align.leftover: got {'publisher': 0.5}, allowed even"),
    ("references: [centrl]", "references.0: got 'centrl', allowed advertiser_alone, central or honest; did you mean"),
    ("references: [central, central]", "references: got ['central', 'central'], allowed each reference once"),
    ("threat: {adversaries: []}", "threat.adversaries: got [], allowed at least one entry"),
    ("defense: marvell", "defense: got 'marvell', allowed a list; write [a, b]"),
    ("defense: [{s: 4}]", "defense.0.name: got nothing, allowed a value"),
    ("attack: [norm, norm]", "attack.1: got 'norm', allowed one entry of each name; add `as: norm_1`"),
    ("attack: [{name: norm, as: a/b}]", "attack.0.as: got 'a/b', allowed letters"),
    ("record: {every: 0}", "record.every: got 0, allowed 1 or more where there are attacks"),
    ("method: {name: vanilla, t: [.nan]}", "method.t.0: got nan, allowed a finite number"),
    ("train:\n  epochs: [1", "line 2: expected ',' or ']'"),
    ("a: b\n\tc: d", "line 2: "),
    ("seed: 1\nseed: 2", "line 2: the key 'seed' stands twice in one mapping; remove one"),
    ("- seed", "got ['seed'], allowed a mapping of keys"),
    ("data: {1: x}", "line 1: got the key 1, allowed text"),
    ("seed: !!python/object/apply:os.getcwd []", "line 1: could not determine a constructor"),
    ("seed: !!int x", "not YAML that can be read"),
    ("data: &a {b: *a}", "line 1: found unconstructable recursive node"),
    ("[" * 5000, "not YAML that can be read"),
    ("a: \x01", "unacceptable character"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text[:40] for text, _ in BAD])
def test_a_bad_file_is_refused_in_one_line_that_names_file_and_key(write, text, message):
    path = write(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    (line,) = lines(error)
    assert line.startswith(f"{path}: {message}") or (line.startswith(f"{path}: ") and message in line)


def test_all_mistakes_are_told_together(write):
    path = write("seed: x\ntrain: {epochs: -1, lr: x}\nbackend: x\n")
    with pytest.raises(ConfigErrors) as error:
        load(path)
    assert [each.key for each in error.value.errors] == ["seed", "backend", "train.epochs", "train.lr"]
    assert len(lines(error)) == 4
    assert all(line.startswith(f"{path}: ") for line in lines(error))
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nope.yaml: no such file"):
        load(tmp_path / "nope.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"data: \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["seed"], "--set: got 'seed', allowed KEY=VALUE"),
        (["=3"], "--set: got '=3', allowed KEY=VALUE"),
        (["train..lr=3"], "--set: train..lr: got 'train..lr', allowed keys joined by single dots"),
        (["seed.x=3"], "--set: seed.x: got 'x', allowed no key below seed, which holds 0"),
        (["attack.x.hints=3"], "--set: attack.x.hints: got 'x', allowed 0 to 2"),
        (["attack.3.hints=3"], "--set: attack.3.hints: got '3', allowed 0 to 2, where 2 adds an entry"),
        (["seed=["], "--set: seed: "),
        (["train.epoch=3"], "--set: train.epoch: no key named 'epoch'; did you mean 'epochs'?"),
        (["attack.1.name=norm"], "--set: attack.1: got 'norm', allowed one entry of each name"),
    ],
)
def test_a_bad_setting_is_refused_as_one(sets, message):
    with pytest.raises(ConfigError) as error:
        load(None, sets)
    assert lines(error)[0].startswith(message)
    assert len(lines(error)) == 1


def test_an_option_of_its_own_is_named_as_such():
    with pytest.raises(ConfigErrors) as error:
        load(None, ["train.epochs=-1"], seed=-1, backend="rayy")
    assert lines(error) == [
        "--seed: seed: got -1, allowed 0 or more; change it",
        "--backend: backend: got 'rayy', allowed ray or local; did you mean 'ray'?",
        "--set: train.epochs: got -1, allowed 0 or more; change it",
    ]


def test_settings_go_over_the_file_and_options_over_settings(write):
    path = write("seed: 1\ntrain: {epochs: 2, lr: 0.5}\ndefense: [{name: marvell, s: 4}]\n")
    config = load(path, ["seed=2", "train.lr=1e-2", "defense.0.s=8", "model.bottom.hidden=[64]"], seed=3, backend=None)
    assert (config.seed, config.train.epochs, config.train.lr) == (3, 2, 0.01)
    assert config.defense[0].member == {"name": "marvell", "s": 8}
    assert config.model.bottom.member == {"name": "mlp", "hidden": [64]}


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_the_order_of_settings_does_not_matter(order):
    sets = ["defense=[marvell]", "defense.0.name=max_norm", "defense.0.share=2"]
    config = load(None, [sets[place] for place in order])
    assert [spec.member for spec in config.defense] == [{"name": "max_norm", "share": 2}]


def test_a_setting_below_an_unwritten_key_starts_from_its_default():
    config = load(None, ["attack.1.hints=3", "attack.2.name=spectral", "defense.0.name=marvell"])
    assert [spec.member for spec in config.attack] == [
        {"name": "norm"},
        {"name": "direction", "hints": 3},
        {"name": "spectral"},
    ]
    assert [spec.name for spec in config.defense] == ["marvell"]


def test_naming_another_member_drops_the_options_of_the_old_one(write):
    path = write("data: {name: csv, key: id, root: here}\nattack: [{name: direction, hints: 4, as: d}]\n")
    config = load(path, ["data.name=adult", "attack.0.name=norm"])
    assert resolved(config)["data"] == {"name": "adult", "root": "here"}
    assert resolved(config)["attack"] == [{"name": "norm", "as": "d"}]
    assert load(path, ["data.name=csv"]).data.options == {"key": "id"}


def test_short_and_long_specs_are_the_same(write):
    text = "data: adult\nmethod: vanilla\nalign: plain\nmodel: {bottom: linear}\ndefense: [marvell]\n"
    long = (
        "data: {name: adult}\nmethod: {name: vanilla}\nalign: {name: plain}\n"
        "model: {bottom: {name: linear}}\ndefense: [{name: marvell}]\n"
    )
    assert load(write(text)) == load(write(long))


def test_what_auto_stands_for():
    assert load().aligner == {"name": "plain"}
    assert load(None, ["data.name=csv", "align.curve=p256"]).aligner == {"name": "ecdh_psi", "curve": "p256"}
    assert load(None, ["align=ecdh_psi"]).aligner == {"name": "ecdh_psi"}
    assert load().sealed
    assert not load(None, backend="local").sealed
    assert load(None, ["wire.channel=on"], backend="local").sealed
    assert not load(None, ["wire.channel=off"]).sealed


def test_a_configuration_cannot_be_changed():
    config = load(None, ["method.t=[1]"])
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 3
    config.method.options["t"].append(2)
    assert config.method.options == {"t": [1]}


texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(value=plain, lr=st.floats(1e-12, 1e12), name=st.sampled_from(["1e-3", "no", "0o7", "~", "null", "2024-01-01"]))
def test_a_dump_reads_back_to_the_same_configuration(tmp_path_factory, value, lr, name):
    config = parse({"method": {"name": name, "option": value}, "train": {"lr": lr}, "data": {"root": name}})
    path = tmp_path_factory.mktemp("dump") / "config.yaml"
    path.write_text(dump(config), encoding="utf-8")
    assert load(path) == config
    assert resolved(load(path)) == resolved(config)
    json.dumps(resolved(config), allow_nan=False)


def test_a_run_id_follows_what_is_computed_and_nothing_else(write):
    first = run_id(load(), "data", "0.1.0")
    assert len(first) == 12
    assert int(first, 16) >= 0
    assert first == run_id(load(write("seed: 0\ntrain: {lr: 1e-3}\nmethod: vanilla\n")), "data", "0.1.0")
    assert first == run_id(load(None, ["data.root=/elsewhere"]), "data", "0.1.0")
    others = {
        run_id(load(None, ["seed=1"]), "data", "0.1.0"),
        run_id(load(None, ["defense.0.name=marvell"]), "data", "0.1.0"),
        run_id(load(), "other", "0.1.0"),
        run_id(load(), "data", "0.1.1"),
    }
    assert len(others | {first}) == 5


def test_members_are_checked_together_and_named_by_their_key():
    sets = [
        "data.nam=x",
        "model.bottom=mpl",
        "model.parties.publisher.bottom=mpl",
        "method=vanila",
        "defense=[marvel, {name: marvell, S: 3}, {name: marvell, s: text}, {name: marvell, party: publisher}]",
    ]
    with pytest.raises(ConfigErrors) as error:
        check_members(load(None, sets), origin_of(None, sets))
    found = dict(zip([each.key for each in error.value.errors], lines(error), strict=True))
    assert list(found) == [
        "data.nam",
        "method.name",
        "model.bottom.name",
        "model.parties.publisher.bottom.name",
        "defense.0.name",
        "defense.1.S",
        "defense.2.s",
        "defense.3.party",
    ]
    assert all(line.startswith("--set: ") for line in found.values())
    assert "no model named 'mpl'; did you mean 'mlp'?" in found["model.bottom.name"]
    assert "no defense named 'marvel'; did you mean 'marvell'?" in found["defense.0.name"]
    assert "got 'publisher', allowed advertiser" in found["defense.3.party"]


def test_one_refused_member_raises_its_own_error():
    with pytest.raises(RegistryError, match="no attack named 'nrm'; did you mean 'norm'"):
        check_members(load(None, ["attack=[nrm]"]))


def test_an_attack_that_asks_for_more_than_is_granted_is_refused():
    with pytest.raises(ThreatError, match=r"attack\.1: .*needs 5 labelled rows, allowed 1; set threat.hints.labelled"):
        check_members(load(None, ["attack.1.hints=5"]))
    check_members(load(None, ["attack.1.hints=5", "threat.hints.labelled_rows=5"]))


def test_parties_must_stand_in_the_split(write):
    path = write(
        "split: {pub_a: [x], pub_b: [y], advertiser: []}\nmodel: {parties: {pub_c: {embedding_dim: 4}}}\n"
        "defense: [{name: marvell, party: advertisr}]\nthreat: {adversaries: [pub_a, nobody]}\n"
        "align: {leftover: {pub_a: 0.5, pub_d: 0.5}}\n"
    )
    with pytest.raises(ConfigErrors) as error:
        load(path)
    keys = ["model.parties.pub_c", "defense.0.party", "threat.adversaries.1", "align.leftover.pub_d"]
    assert [each.key for each in error.value.errors] == keys


def test_where_an_error_comes_from():
    origin = Origin("run.yaml", ("train.lr", "defense"), ("seed",))
    assert origin.where("seed") == "--seed"
    assert origin.where("train.lr") == origin.where("train") == origin.where("defense.0.s") == "--set"
    assert origin.where("train.epochs") == origin.where("train.lrx") == origin.where("") == "run.yaml"


def test_the_schema_knows_every_key_and_no_other():
    schema = json_schema()
    assert set(schema["properties"]) == set(resolved(Config()))
    assert schema["additionalProperties"] is False
    json.dumps(schema, allow_nan=False)


def test_loading_imports_no_torch():
    code = "import sys; from experiments.config import load, dump; dump(load()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
