"""RayGrid gives what LocalGrid gives, bit for bit, over the compiled graph and over plain calls."""

from __future__ import annotations

import pytest
from harness import config, digest, train

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

MARVELL = [{"name": "marvell", "s": 4.0}, {"name": "gaussian_noise", "ratio": 0.5}]
FOUR = {
    "name": "columns",
    "one": ["mean_radius"],
    "two": ["mean_texture", "mean_area"],
    "three": ["worst_texture"],
    "advertiser": ["worst_area"],
}
STACK = [
    {"name": "tpsl", "epsilon": 4.0},
    {"name": "dcor", "protects": "labels"},
    {"name": "max_norm"},
    {"name": "dropout"},
    {"name": "clipped_gaussian"},
    {"name": "norm_check", "act": "repair", "factor": 1.0, "warm_up": 1},
]
CASES = {
    "every hook defended": {"defense": STACK},
    "private alignment, three publishers": {"align": {"name": "ecdh_psi", "overlap": 0.4}, "split": FOUR},
    "labels only": {"split": {"name": "columns", "publisher": ["mean_radius"], "advertiser": []}},
}
SLOW_CASES = {
    "one step late": {"train": {"epochs": 2, "batch_size": 64, "stale": 1, "checkpoint_every": 0}},
    "defended": {"defense": MARVELL},
    "partial overlap": {"align": {"overlap": 0.4}},
    "private alignment": {"align": {"name": "ecdh_psi", "overlap": 0.4}},
    "private alignment on two processes": {"align": {"name": "ecdh_psi", "workers": 2}},
    "adult": {"data": "adult", "train": {"epochs": 1, "batch_size": 1024}},
}


"""What differs from the cases above in no arrow of the graph: each start of the actors takes seconds."""


def on_ray(graph: bool):
    def make(specs, asked, largest):
        from parties.ray import ray_grid

        grid = ray_grid(specs, asked.transport, largest)
        grid._carrier.use_graph = graph
        return grid

    return make


def slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("case", [*CASES, *map(slow, SLOW_CASES)])
def test_the_compiled_graph_gives_the_digest_of_local(ray_cluster: None, case: str) -> None:
    asked = config(**{**CASES, **SLOW_CASES}[case])
    assert digest(train(asked, make_grid=on_ray(True))) == digest(train(asked))


@pytest.mark.parametrize(
    "changed", [slow({}), {"transport": "relay", "wire": {"channel": "on"}}, slow({"split": FOUR})]
)
def test_plain_calls_relay_and_the_channel_give_it_too(ray_cluster: None, changed: dict) -> None:
    asked = config(**changed)
    assert digest(train(asked, make_grid=on_ray(False))) == digest(train(config(split=changed.get("split"))))


@pytest.mark.parametrize(("rows", "width"), [slow(4096, 64), (16384, 64)])
def test_bodies_above_a_megabyte_come_through_and_the_graph_is_torn_down(
    ray_cluster: None, rows: int, width: int
) -> None:
    asked = config(data="adult", model={"embedding_dim": width}, train={"epochs": 1, "batch_size": rows})
    fit = train(asked, make_grid=on_ray(True))
    assert fit.closing["publisher"]["bytes/embedding"] > 4 * rows * width


def test_a_party_that_fails_is_named_with_its_cause(ray_cluster: None, tmp_path, monkeypatch) -> None:
    from dataclasses import replace

    from vfl.errors import DataError

    def lose_a_column(specs):
        shard = replace(specs[0].shard, columns=("no_such_column",))
        return [replace(specs[0], shard=shard), *specs[1:]]

    with pytest.raises(DataError, match="no_such_column"):
        train(config(), make_grid=on_ray(True), edit=lose_a_column)


def test_a_killed_actor_ends_the_run_with_a_party_error(ray_cluster: None) -> None:
    import ray

    from vfl.errors import PartyError

    def dying(specs, asked, largest):
        grid = on_ray(True)(specs, asked, largest)
        stream = grid.stream

        def stream_and_kill(hops, steps):
            for reports in stream(hops, steps):
                yield reports
                ray.kill(grid._carrier.actors["publisher"])

        grid.stream = stream_and_kill
        return grid

    with pytest.raises(PartyError, match="died or stayed away"):
        train(config(faults={"restarts": 0}), make_grid=dying)
