"""The benchmark command reports what it measured; how fast that is, no test asserts."""

from __future__ import annotations

import json

import pytest

from experiments.bench.__main__ import main


def test_a_figure_is_reported_beside_its_reference(capsys: pytest.CaptureFixture[str]) -> None:
    main(
        [
            "throughput",
            "--backend",
            "local",
            "--workload",
            "W0",
            "--batch",
            "4096",
            "--repeats",
            "1",
            "--seconds",
            "0.1",
            "--json",
        ]
    )
    (figure,) = json.loads(capsys.readouterr().out)["figures"]
    assert figure["name"] == "throughput/local/W0/4096"
    assert figure["value"] > 0
    assert figure["reference"] > 0
    assert figure["ratio"] == pytest.approx(figure["value"] / figure["reference"], rel=0.5)
