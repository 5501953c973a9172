"""Actors that are really killed, and a cluster of two nodes: the digest is that of a calm run in one process."""

from __future__ import annotations

import pytest
from harness import config, digest, train

from parties.faults import Faults, faulty
from vfl.errors import PartyGoneError
from vfl.seeds import Seeds

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
TRAIN = {"epochs": 3, "batch_size": 64, "checkpoint_every": 4}


def calm() -> str:
    return digest(train(config(train=TRAIN)))


def test_an_actor_killed_in_the_compiled_graph_goes_on_from_its_checkpoint(ray_cluster: None, tmp_path) -> None:
    from parties.ray import ray_grid

    killed = []

    def make(specs, asked, largest):
        grid = ray_grid(specs, asked.transport, largest)
        stream = grid.stream

        def stream_and_kill(hops, steps):
            steps = list(steps)
            for step, reports in zip(steps, stream(hops, steps), strict=True):
                yield reports
                if step.index + 1 in (7, 13) and step.index + 1 not in killed:
                    killed.append(step.index + 1)
                    grid.carrier.kill("publisher" if step.index + 1 == 7 else "advertiser")

        grid.stream = stream_and_kill
        return grid

    fit = train(config(train=TRAIN, wire={"channel": "on"}), tmp_path, make)
    assert killed == [7, 13]
    assert fit.restarts == 2
    assert digest(fit) == calm()


def test_chaos_twenty_real_deaths(ray_cluster: None, tmp_path) -> None:
    from parties.ray import ray_grid

    seen = []

    def make(specs, asked, largest):
        faults = Faults(loss=0.02, duplicate=0.05, crash=0.06)
        seen.append(faulty(ray_grid(specs, asked.transport, largest), faults, Seeds(5)))
        return seen[0]

    fit = train(config(train=TRAIN, faults={"restarts": 1_000}, wire={"channel": "on"}), tmp_path, make)
    assert seen[0].carrier.counts["crash"] >= 20
    assert digest(fit) == calm()


def test_a_party_that_hangs_counts_as_gone(ray_cluster: None, tmp_path, monkeypatch) -> None:
    from parties.ray import ray_grid

    def make(specs, asked, largest):
        return ray_grid(specs, asked.transport, largest, None, 0.001)

    with pytest.raises(PartyGoneError, match="died or stayed away"):
        train(config(faults={"restarts": 0}), tmp_path, make)


DRIVER = """
import sys
sys.path.insert(0, "tests/runs")
from pathlib import Path
import tables
from experiments.progress import Silent
from experiments.run import simulate
from harness import config

data, out = tables.section(Path(sys.argv[1]) / "tables"), Path(sys.argv[1]) / "run"
asked = config(data=data, backend="ray", wire={"channel": sys.argv[2]}, transport="relay")
simulate(asked, out, ray_address=None, resume=None, progress=Silent())
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("channel", ["on", "off"])
def test_the_coordinators_memory_and_log_hold_no_embedding_gradient_handle_id_or_label(tmp_path, channel) -> None:
    """Every message passes through it. With the channel off all that is sent is found: so the search works."""
    import subprocess
    import sys
    from pathlib import Path

    import pandas as pd
    import tables
    from memory import label_runs, secrets, which

    ids = tables.write(tmp_path / "tables")
    labels = label_runs(pd.read_csv(tmp_path / "tables" / "advertiser.csv")["bought"].to_numpy())
    command = [sys.executable, "-c", DRIVER, str(tmp_path), channel]
    log = tmp_path / "log"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log.open("wb")}
    with subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2], **pipes) as running:
        assert running.stdout.readline() == b"ready\n", log.read_text()[-3000:]
        places = [tmp_path / "run" / "parties" / party / "transcript" for party in ("publisher", "advertiser")]
        sent = [each for place in places for each in secrets(place)]
        found = which(running.pid, sent)
        own = which(running.pid, [each.encode() for each in ids] + labels)
        running.stdin.close()
    assert len(sent) > 20
    assert (len(found) > len(sent) / 2) if channel == "off" else not found
    assert not own
    assert not [each for each in [*sent, *labels, *(each.encode() for each in ids)] if each in log.read_bytes()]


TWO_NODES = """
import ray, sys
sys.path.insert(0, "tests/runs")
from pathlib import Path
from ray.cluster_utils import Cluster
import tables
from experiments.progress import Silent
from experiments.run import simulate
from parties import ray as actors

head = {"num_cpus": 1, "resources": {"advertiser": 1, "referee": 1}, "_system_config": actors.SYSTEM_CONFIG}
cluster = Cluster(initialize_head=True, head_node_args=head)
cluster.add_node(num_cpus=1, resources={"publisher": 1})
places, folder, make = {}, Path(sys.argv[1]), actors.ray_grid

def make_and_look(*given):
    grid = make(*given)
    for party, actor in grid.carrier.actors.items():
        places[party] = ray.get(actor.__ray_call__.remote(lambda self: ray.get_runtime_context().get_node_id()))
    return grid

def row(name, backend, address):
    asked = tables.scenario(folder / "tables", backend)
    return simulate(asked, folder / name, ray_address=address, resume=None, progress=Silent())

actors.ray_grid = make_and_look
spread = row("spread", "ray", cluster.address)
assert places["publisher"] != places["advertiser"] == places["referee"], places
ray.shutdown()
cluster.shutdown()
for other in (row("one", "ray", None), row("calm", "local", None)):
    assert (other["digest"], other["utility"]) == (spread["digest"], spread["utility"]), (other, spread)
assert len(set(places.values())) == 1, places
assert spread["utility"]["test"]["auc"] > 0.5
print("same on two nodes")
"""


def test_two_nodes_give_the_digest_and_figures_of_one_node_and_of_one_process(tmp_path) -> None:
    """In a process of its own, with a cluster of its own. Deployments are held to the same run: `tests/deploy`."""
    import subprocess
    import sys
    from pathlib import Path

    root, command = Path(__file__).resolve().parents[2], [sys.executable, "-c", TWO_NODES, str(tmp_path)]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert "same on two nodes" in found.stdout, found.stderr[-3000:]
