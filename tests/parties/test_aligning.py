"""What aligning gave is kept for runs that align alike: what they send, count and leave is what they would have."""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from experiments.config import parse
from experiments.progress import Silent
from experiments.run import ALIGNMENT_DEPENDS_ON, REFERENCES_DEPEND_ON, Shared, _kept_at, prepare, simulate
from parties.aligning import Aligning
from vfl import checkpoint
from vfl.align import AlignSide
from vfl.align.ecdh_psi import EcdhPsi
from vfl.align.plain import Plain
from vfl.data.keys import PackedKeys
from vfl.errors import WireError
from vfl.exchange import Outgoing
from vfl.seeds import Seeds
from vfl.types import Envelope, Kind, PartyId, Pool, Step

STEP = Step(0, "align", Pool.TRAIN)
OWN, THEIRS = torch.arange(0, 30), torch.arange(10, 50)
POOLS = torch.tensor([0, 0, 1, 2, 0] * 6)


def sides(folder: Path | None, seed: int = 0) -> dict[PartyId, Aligning]:
    psi, seeds = EcdhPsi(), Seeds(seed)
    makers = {
        "publisher": lambda: psi.publisher(THEIRS, seeds.scope("publisher")),
        "advertiser": lambda: psi.advertiser(OWN, POOLS, seeds.scope("advertiser"), ("publisher",)),
    }
    return {party: Aligning(make, folder and folder / party) for party, make in makers.items()}


def sent(outgoing: Outgoing, sender: PartyId, receiver: PartyId) -> dict[PartyId, Envelope]:
    nobody = torch.empty(0, dtype=torch.int64)
    return {sender: Envelope(0, Kind.PSI, sender, receiver, nobody, outgoing.bodies[receiver].clone())}


def play(found: dict[PartyId, Aligning]) -> list[bytes]:
    """Play the round and return every body sent and every alignment, as bytes."""
    ask = found["advertiser"].handler("ask")(STEP, {})
    found["publisher"].handler("mask")(STEP, {})
    answer = found["publisher"].handler("answer")(STEP, sent(ask, "advertiser", "publisher"))
    match = found["advertiser"].handler("match")(STEP, sent(answer, "publisher", "advertiser"))
    found["publisher"].handler("settle")(STEP, sent(match, "advertiser", "publisher"))
    bodies = [body for outgoing in (ask, answer, match) for body in outgoing.bodies.values()]
    knowns = [side.alignment for side in found.values()]
    orders = [part for known in knowns for part in (known.order, known.only)]
    facts = [repr((known.train, known.valid, known.test, sorted(known.held.items()))).encode() for known in knowns]
    return [*(tensor.numpy().tobytes() for tensor in (*bodies, *orders)), *facts]


def values(file: Path) -> tuple[dict, dict]:
    tensors, facts = checkpoint.load(file)
    return {name: value.tolist() for name, value in tensors.items()}, facts


@pytest.fixture
def no_masking(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError("an id was masked")

    def switch() -> None:
        for name in ("mask_messages", "mask_points", "digest_points"):
            monkeypatch.setattr(f"vfl.align.ecdh_psi.{name}", refuse)

    return switch


def test_what_was_played_is_answered_alike_and_masks_nothing(tmp_path: Path, no_masking):
    alone = play(sides(None))
    assert play(sides(tmp_path)) == alone
    no_masking()
    assert play(sides(tmp_path)) == alone


@pytest.mark.parametrize("harm", ["deleted", "cut short", "changed"])
def test_an_answer_that_is_gone_or_broken_is_played_again(tmp_path: Path, harm: str):
    """Any one of them: the aligner then plays what it did not have to before."""
    alone = play(sides(None))
    play(sides(tmp_path))
    for file in sorted(tmp_path.glob("*/*")):
        whole, held = file.read_bytes(), values(file)
        if harm == "deleted":
            file.unlink()
        else:
            file.write_bytes(whole[:-9] if harm == "cut short" else whole[:-1] + bytes([whole[-1] ^ 1]))
        assert play(sides(tmp_path)) == alone
        assert values(file) == held


def test_an_answer_to_other_mail_is_not_given(tmp_path: Path):
    """The aligner itself must see, and refuse, what was changed on the way."""
    play(sides(tmp_path))
    found = sides(tmp_path)
    ask = found["advertiser"].handler("ask")(STEP, {})
    found["publisher"].handler("mask")(STEP, {})
    mail = sent(
        found["publisher"].handler("answer")(STEP, sent(ask, "advertiser", "publisher")), "publisher", "advertiser"
    )
    mail["publisher"].body[5, 0] ^= 1
    with pytest.raises(WireError, match="align again with a peer you trust"):
        found["advertiser"].handler("match")(STEP, mail)


def test_runs_at_once_keep_whole_answers(tmp_path: Path):
    alone = play(sides(None))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: play(sides(tmp_path)), range(8))) == [alone] * 8
    assert sorted(len(list(folder.iterdir())) for folder in tmp_path.iterdir()) == [2, 3]


def test_a_side_is_not_made_where_all_is_answered(tmp_path: Path):
    play(sides(tmp_path))
    made: list[int] = []

    def make(number: int, side: AlignSide) -> AlignSide:
        made.append(number)
        return side

    psi = EcdhPsi()
    whole = Aligning(partial(make, 1, psi.publisher(THEIRS, Seeds(0))), None)
    assert made == [1]
    assert whole.alignment is None
    Aligning(partial(make, 2, psi.publisher(THEIRS, Seeds(0))), tmp_path / "publisher").handler("mask")(STEP, {})
    assert made == [1]


def test_an_advertiser_that_has_packed_its_keys_holds_them_no_longer() -> None:
    """Ten million of them are 160 MB, beside the message that holds them too."""
    keys = PackedKeys([["a", "b", "c"]])
    held = weakref.ref(keys)
    aligning = Aligning(partial(Plain().advertiser, keys, torch.zeros(3), Seeds(0), ("publisher",)), None)
    del keys
    assert held() is None
    assert aligning.alignment is None


BASE = {"data": "breast_cancer", "backend": "local", "align": {"name": "ecdh_psi"}, "references": [], "attack": []}


def place(asked: dict, sections: tuple[str, ...] = ALIGNMENT_DEPENDS_ON) -> str:
    config, world, _ = prepare(parse(asked))
    return _kept_at(Path("kept"), sections, config, world)


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"defense": [{"name": "max_norm"}]}, True),
        ({"model": {"embedding_dim": 8}}, True),
        ({"train": {"epochs": 1}}, True),
        ({"seed": 1}, False),
        ({"data": "digits"}, False),
        ({"holdout": {"test": 0.3}}, False),
        ({"align": {"name": "ecdh_psi", "max_asked": 9000}}, False),
        ({"align": {"name": "ecdh_psi", "overlap": 0.5}}, False),
    ],
)
def test_trials_align_alike_where_nothing_differs_that_aligning_reads(changed: dict, same: bool):
    assert (place({**BASE, **changed}) == place(BASE)) is same


def test_a_method_that_cuts_otherwise_shares_nothing():
    """`oracle` takes every row as aligned, whatever the overlap: neither its rows nor its references are another's."""
    partly = {**BASE, "align": {"name": "ecdh_psi", "overlap": 0.5}}
    for sections in (ALIGNMENT_DEPENDS_ON, REFERENCES_DEPEND_ON):
        assert place({**partly, "method": "oracle"}, sections) != place(partly, sections)


def test_other_ids_in_the_same_files_are_other_alignments(tmp_path: Path):
    for party in ("publisher", "advertiser"):
        label = "y" if party == "advertiser" else "z"
        rows = "".join(f"{row},{row % 7},{row % 2}\n" for row in range(60))
        (tmp_path / f"{party}.csv").write_text(f"id,x,{label}\n{rows}")
    data = {"name": "csv", "key": "id", "label": "y", "root": str(tmp_path)}
    asked = {**BASE, "data": {**data, "publisher": "publisher.csv", "advertiser": "advertiser.csv"}}
    before = place(asked)
    path = tmp_path / "publisher.csv"
    path.write_text(path.read_text().replace("59,", "99,"))
    assert place(asked) != before


def test_a_trial_reports_the_same_with_and_without(tmp_path: Path, warm_isolation, no_masking):
    asked = parse({**BASE, "train": {"epochs": 1, "batch_size": 64}, "record": {"every": 0}})
    defended = asked.model_copy(update={"defense": parse({"defense": [{"name": "max_norm"}]}).defense})
    kept = Shared(warm_isolation, tmp_path / "references", tmp_path / "alignments")
    apart = Shared(warm_isolation, tmp_path / "nothing", tmp_path / "nobody")

    def row(config: object, shared: Shared, name: str) -> dict:
        found = simulate(config, tmp_path / name, ray_address=None, resume=None, progress=Silent(), shared=shared)
        cost = {"bytes": found["cost"]["bytes"], "steps": found["cost"]["steps"]}
        return {**found, "out": "", "cost": cost}

    alone = row(defended, apart, "alone")
    row(asked, kept, "first")
    no_masking()
    after = row(defended, kept, "second")
    assert after == alone
    assert after["cost"]["bytes"]["psi"] > 0
