"""An unregistered, an expired and a wrong-key party are refused by name, in one process and by Ray's actors.

Over Flower: `tests/deploy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from harness import config, train

from parties.spec import PartySpec
from vfl.errors import WireError
from vfl.identity import Credentials, drawn

ROSTER = ("publisher", "advertiser", "referee")


def unregistered(own: Credentials, party: str) -> Credentials:
    """The publisher is nobody to the others."""
    return replace(own, registry={name: key for name, key in own.registry.items() if name != "publisher"})


def expired(own: Credentials, party: str) -> Credentials:
    """The publisher's key has had its time."""
    return replace(own, registry={**own.registry, "publisher": replace(own.registry["publisher"], expires=1.0)})


def wrong_key(own: Credentials, party: str) -> Credentials:
    """Somebody else stands where the publisher should."""
    return replace(own, private=drawn(own.run, ROSTER)["publisher"].private) if party == "publisher" else own


CASES: dict[Callable[[Credentials, str], Credentials], str] = {
    unregistered: "'publisher', who is not registered",
    expired: "'publisher', whose key has expired",
    wrong_key: "'publisher' that its registered key did not sign",
}


def on_ray(specs, asked, largest):
    from parties.ray import ray_grid

    return ray_grid(specs, asked.transport, largest)


def refused(change: Callable[[Credentials, str], Credentials], make_grid: Callable | None) -> str:
    def edit(specs: Sequence[PartySpec]) -> list[PartySpec]:
        return [replace(spec, credentials=change(spec.credentials, spec.party)) for spec in specs]

    with pytest.raises(WireError) as caught:
        train(config(wire={"channel": "on"}), make_grid=make_grid, edit=edit)
    return str(caught.value)


@pytest.mark.parametrize("change", CASES)
def test_refused_in_one_process(change) -> None:
    assert CASES[change] in refused(change, None)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("change", CASES)
def test_refused_by_actors(ray_cluster: None, change) -> None:
    assert CASES[change] in refused(change, on_ray)
