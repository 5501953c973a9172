"""Two people's files joined in private over Ray; a changed or replayed message is refused there as in one process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flwr.app import ArrayRecord
from harness import config, digest, train

from experiments.cli import main
from vfl.compat_flwr import array
from vfl.errors import WireError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def tables(folder: Path) -> dict[str, str]:
    """Write two files of 250 rows that share 150, 60 % of each."""
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 350))
    whole = pd.DataFrame({"id": [f"user-{place}" for place in range(350)], "spent": x, "visits": z})
    whole["y"] = (x + z > 0).astype(int)
    whole.iloc[:250][["id", "spent"]].to_csv(folder / "a.csv", index=False)
    whole.iloc[100:][["id", "visits", "y"]].sample(frac=1, random_state=1).to_csv(folder / "b.csv", index=False)
    return {"publisher": str(folder / "a.csv"), "advertiser": str(folder / "b.csv"), "key": "id", "label": "y"}


def on_ray(specs, asked, largest):
    from parties.ray import ray_grid

    return ray_grid(specs, asked.transport, largest)


def in_process(specs, asked, largest):
    from parties.local import local_grid

    return local_grid(specs, asked.transport)


def test_two_files_are_joined_over_ray_as_in_one_process(ray_cluster: None, tmp_path) -> None:
    data = {"name": "csv", **tables(tmp_path)}
    found = train(config(data=data, backend="ray"), tmp_path / "ray", on_ray)
    report = found.reports["advertiser"]
    assert sum(report[pool] for pool in ("train", "valid", "test")) == 150
    assert report["held/advertiser"] == report["held/publisher"] == 100
    assert digest(found) == digest(train(config(data=data), tmp_path / "local"))


def test_the_command_joins_two_files_over_ray_and_counts_what_is_shared(ray_cluster: None, tmp_path, capsys) -> None:
    data = json.dumps({"name": "csv", **tables(tmp_path)})
    rest = ["--set", "train.epochs=1", "--set", "train.batch_size=32", "--set", "attack=[]", "--json"]
    assert main(["simulate", "--out", str(tmp_path / "run"), "--set", f"data={data}", *rest]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["backend"] == "ray"
    assert row["alignment"] == {"aligned": 150, "only": {"publisher": 100, "advertiser": 100}, "partial": {}}


@pytest.mark.parametrize("grid", [on_ray, in_process])
@pytest.mark.parametrize(("kind", "told"), [("flipped", "changed on the way"), ("replayed", "was replayed")])
def test_a_changed_or_replayed_message_is_refused(ray_cluster: None, grid, kind, told) -> None:
    """The channel is off, so that what refuses is the matching and the party, not the encryption."""

    def make(specs, asked, largest):
        made = grid(specs, asked, largest)
        made._carrier = Meddler(made._carrier, kind)
        return made

    with pytest.raises(WireError, match=told):
        train(config(align={"name": "ecdh_psi"}, transport="relay", wire={"channel": "off"}), make_grid=make)


class Meddler:
    """Carries messages as another carrier does, but for the publishers' answers: one bit off, or of an earlier step."""

    def __init__(self, carrier, kind: str) -> None:
        self.carrier, self.kind = carrier, kind

    def __getattr__(self, name: str):
        return getattr(self.carrier, name)

    def carry(self, messages):
        for message in messages:
            for key, record in list(message.content.array_records.items()):
                if key.startswith("psi/publisher/advertiser/"):
                    del message.content[key]
                    changed = key.rpartition("/")[0] + "/7" if self.kind == "replayed" else key
                    message.content[changed] = record if self.kind == "replayed" else flipped(record)
        return self.carrier.carry(messages)


def flipped(record: ArrayRecord) -> ArrayRecord:
    body, data = record["body"], bytearray(record["body"].data)
    data[40] ^= 1
    return ArrayRecord({"rows": record["rows"], "body": array(body.dtype, tuple(body.shape), body.stype, bytes(data))})
