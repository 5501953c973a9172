"""Joining a cluster: the shipped example, and addresses where there is none."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import yaml

from vfl.errors import UserError

SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "deploy" / "ray-cluster.yaml"


def test_the_shipped_cluster_is_one_by_rays_own_schema() -> None:
    import jsonschema
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load(SHIPPED.read_text()), schema)


def test_the_shipped_cluster_offers_what_parties_are_placed_by() -> None:
    from vfl.types import Role

    text = SHIPPED.read_text()
    assert all(f'"{role.value}": 1' in text for role in Role)


@pytest.mark.parametrize("silent", [False, True], ids=["nobody listens", "somebody else listens"])
def test_an_address_without_a_cluster_is_given_up_in_one_line(monkeypatch, silent: bool) -> None:
    """Without asking Ray, which would try for more than a minute."""
    import ray

    from parties import ray as ours

    monkeypatch.setattr(ours, "PROBE_S", 0.5)
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("asked Ray"))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if silent:
            other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UserError, match=f"--ray-address: {address}: no Ray cluster answers") as caught:
            ours.start_ray(1024, address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["somewhere", "host:", ":6379", "host:port", "ray://host:10001"])
def test_what_is_no_address_is_refused(address: str) -> None:
    from parties import ray as ours

    with pytest.raises(UserError, match="allowed auto or HOST:PORT"):
        ours.start_ray(1024, address)
