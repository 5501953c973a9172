"""Figures hold what they are given, however long its names are."""

from __future__ import annotations

import io

from experiments import plots


def test_bars_have_room_beside_the_longest_names(recwarn):
    name = "no defense, threat adversaries publisher, model bottom mlp, top linear, data digits, overlap 1.0, epochs 15"
    figure = plots.stacked([(name, {"embedding": 3.0}), ("none", {"embedding": 2.0})], "MB")
    figure.savefig(io.BytesIO(), format="svg")
    assert not [str(each.message) for each in recwarn if "collapsed" in str(each.message)]
    (axes,) = figure.axes
    assert axes.get_position().width > 0.3
    assert axes.get_yticklabels()[0].get_text().replace("\n", " ") == name
