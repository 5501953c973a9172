"""`vfl account`: the ledger of a plan, one mechanism by every accountant, and what it refuses."""

from __future__ import annotations

import json

import pytest

from experiments.cli import main

DATA = ["--set", "data=breast_cancer"]


def answer(capsys, *arguments):
    assert main(["account", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *arguments):
    assert main(["account", *arguments]) == 2
    return capsys.readouterr().err


def defended(*stack):
    return [*DATA, "--set", f"defense={json.dumps(stack)}"]


def test_a_plan_is_accounted_before_it_is_run(capsys):
    stack = [{"name": "randomized_response", "epsilon": 2}, {"name": "clipped_gaussian", "noise_multiplier": 20}]
    plan = [*defended(*stack), "--set", "train.epochs=100"]
    publisher, advertiser = answer(capsys, *plan)["ledger"]
    assert publisher["epsilon"] == pytest.approx(4.3772, abs=5e-5)
    assert set(publisher) == {"party", "unit", "purpose", "epsilon", "delta", "accountant"}
    assert (advertiser["party"], advertiser["epsilon"], advertiser["delta"]) == ("advertiser", 2.0, 0.0)
    assert answer(capsys, *plan, "--delta", "1e-9")["ledger"][0]["epsilon"] > publisher["epsilon"]
    assert main(["account", *plan]) == 0
    assert "epsilon 4.377 at delta 1e-05" in capsys.readouterr().out


def test_losses_that_no_guarantee_covers_are_named(capsys):
    clean, private = ([*defended({"name": name})] for name in ("grad_perturb", "tpsl"))
    assert bare(capsys, "advertiser", *clean) == ["training row, mean", "validation row, loss", "test row, figures"]
    assert bare(capsys, "advertiser", *private) == ["validation row, loss", "test row, figures"]
    assert bare(capsys, "advertiser", *private, "--set", "holdout.valid=0") == ["test row, figures"]
    assert bare(capsys, "advertiser", *DATA)[:2] == ["training row, gradient", "training row, mean"]
    assert main(["account", *clean]) == 0
    assert "no epsilon for the label of a validation row" in capsys.readouterr().out


def bare(capsys, party, *arguments):
    """The rows, and the first telling word of the purpose, of what is uncovered at a party."""
    lines = [line for line in answer(capsys, *arguments)["uncovered"] if line["party"] == party]
    words = [line["purpose"].replace("its ", "").replace("the ", "").split(": ")[1].split()[0] for line in lines]
    return [f"{line['unit'].split(' of a ')[1]}, {word}" for line, word in zip(lines, words, strict=True)]


def test_embeddings_that_no_guarantee_covers_are_named(capsys):
    evaluated = ["validation row, embedding", "test row, embedding"]
    noised = defended({"name": "clipped_gaussian", "noise_multiplier": 20})
    (line,) = answer(capsys, *noised)["ledger"]
    assert line["unit"] == "own columns of a training row, given the bottom's weights"
    assert bare(capsys, "publisher", *noised) == evaluated
    assert bare(capsys, "publisher", *noised, "--set", "holdout.valid=0") == evaluated[1:]
    assert bare(capsys, "publisher", *DATA) == ["training row, embedding", *evaluated]
    assert bare(capsys, "publisher", *defended({"name": "dp_sgd"})) == ["training row, embedding", *evaluated]
    assert bare(capsys, "publisher", *DATA, "--set", "method=local") == []


def test_without_a_guarantee_there_is_no_epsilon(capsys):
    assert answer(capsys, *defended({"name": "marvell"}))["ledger"] == []
    assert main(["account", *DATA]) == 0
    assert "no epsilon" in capsys.readouterr().out


def test_a_mechanism_is_exact_without_sampling_and_bounded_with_it(capsys):
    exact = answer(capsys, "--noise-multiplier", "4", "--steps", "10")
    assert exact["epsilon"] == {"exact": pytest.approx(3.3414, abs=5e-5)}
    hidden = ["--steps", "1000", "--sample-rate", "0.01", "--batches-hidden"]
    sampled = answer(capsys, "--noise-multiplier", "1", *hidden)["epsilon"]
    assert sampled["rdp"] == pytest.approx(2.1014, abs=5e-4)
    assert sampled["prv"] < sampled["rdp"]


def test_noise_is_calibrated_to_a_target(capsys):
    found = answer(capsys, "--target-epsilon", "3.3414", "--steps", "10")
    assert found["noise_multiplier"] == pytest.approx(4.0, rel=2e-3)
    assert found["epsilon"]["exact"] <= 3.3414


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--noise-multiplier", "1", "--sample-rate", "0.01"], "others see which rows a batch holds"),
        (["--noise-multiplier", "1", "--target-epsilon", "1"], "got both"),
        (["--noise-multiplier", "0"], "--noise-multiplier: got 0.0"),
        (["--noise-multiplier", "1", "--steps", "0"], "--steps: got 0"),
        (["--target-epsilon", "1", "--delta", "1"], "--delta: got 1.0"),
        (["--target-epsilon", "1e12"], "allowed an epsilon that noise can reach"),
        (["--target-epsilon", "nan"], "--target-epsilon: got nan"),
        (["--noise-multiplier", "1", "--sample-rate", "nan"], "--sample-rate: got nan"),
        (["--noise-multiplier", "1e-9"], "allowed noise that hides something"),
        (["--noise-multiplier", "0.01", "--sample-rate", "0.1", "--batches-hidden"], "allowed 0.1 or more"),
        ([*DATA, "--delta", "0"], "--delta: got 0.0"),
        ([*DATA, "--noise-multiplier", "1"], "beside a mechanism"),
        (defended({"name": "max_norm"}, {"name": "clipped_laplace", "on": "gradient"}), "would be void"),
        (defended({"name": "tpsl", "party": "publisher"}), "defense.0.party: got 'publisher'"),
        (defended({"name": "dp_sgd", "party": "advertiser"}), "defense.0.party: got 'advertiser'"),
        (defended({"name": "clipped_gaussian", "on": "gradient", "party": "publisher"}), "allowed advertiser"),
        ([*defended({"name": "grad_perturb"}), "--set", "method=risa"], "not 'risa', which sends or trains on rows"),
        ([*defended({"name": "grad_perturb"}), "--set", "method=secure_sum"], "which has no gradients by class"),
        ([*defended({"name": "clipped_gaussian"}), "--set", "method=fedcvt"], "not 'fedcvt', which sends or trains on"),
        ([*defended({"name": "tpsl"}), "--set", "method=local"], "not 'local', which sends or trains on rows"),
        ([*defended({"name": "dp_sgd"}), "--set", "method=fedbcd"], "not 'fedbcd', which sends or trains on rows"),
        ([*defended({"name": "grad_perturb"}), "--set", "train.batches_per_message=2"], "no gradients by class"),
        ([*defended({"name": "clipped_gaussian"}), "--set", "faults.without=impute"], "steps played again"),
        (defended({"name": "grad_perturb"}, {"name": "kdk"}), "kdk beside it lets rows of a batch change each other"),
        (defended({"name": "clipped_laplace", "on": "gradient"}, {"name": "lp_2st"}), "lp_2st beside it lets rows"),
        (
            defended({"name": "kdk"}, {"name": "randomized_response"}),
            "kdk before it makes a label of several rows' labels",
        ),
    ],
)
def test_what_cannot_be_accounted_is_refused_in_one_line(capsys, arguments, said):
    told = refusal(capsys, *arguments)
    assert said in told
    assert told.count("\n") == 1
