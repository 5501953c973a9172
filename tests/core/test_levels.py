from __future__ import annotations

from vfl.grid import levels
from vfl.methods.vanilla import EVALUATE, TRAIN
from vfl.types import Hop, Kind, Role

P, A, R = Role.PUBLISHER, Role.ADVERTISER, Role.REFEREE


def named(hops: tuple[Hop, ...]) -> list[dict[Role, tuple[str, ...]]]:
    return [{stage.role: stage.names for stage in level} for level in levels(hops)]


def test_both_bottoms_go_forward_at_once_and_backward_at_once():
    assert named(TRAIN) == [{P: ("forward",), A: ("own",)}, {A: ("fuse",)}, {A: ("finish",), P: ("backward",)}]


def test_what_waits_for_another_role_comes_a_level_later():
    assert named(EVALUATE) == [{P: ("embed",)}, {A: ("score",)}, {R: ("collect",)}]


def test_hops_of_one_role_keep_their_order():
    """`note` takes nothing, but its role has just answered `ask`: it must not move before that."""
    hops = (
        Hop("ask", A, "ask", gives=Kind.CONTROL),
        Hop("answer", P, "answer", takes=("ask",), gives=Kind.EMBEDDING),
        Hop("read", A, "read", takes=("answer",)),
        Hop("note", A, "note"),
    )
    assert named(hops) == [{A: ("ask",)}, {P: ("answer",)}, {A: ("read", "note")}]


def test_what_a_role_keeps_to_itself_does_not_make_it_wait():
    hops = (Hop("first", A, "first"), Hop("second", A, "second", takes=("first",), gives=Kind.SCORE))
    assert named(hops) == [{A: ("first", "second")}]


def test_one_after_the_other_the_advertiser_gets_one_message() -> None:
    found = [{stage.role: stage.names for stage in level} for level in levels(TRAIN, side_by_side=False)]
    assert found == [{P: ("forward",)}, {A: ("own", "fuse", "finish")}, {P: ("backward",)}]


def test_putting_hops_off_keeps_the_order_of_a_role() -> None:
    hops = (
        Hop("note", A, "note"),
        Hop("ask", A, "ask", gives=Kind.CONTROL),
        Hop("answer", P, "answer", takes=("ask",), gives=Kind.EMBEDDING),
        Hop("read", A, "read", takes=("answer",)),
    )
    found = [{stage.role: stage.names for stage in level} for level in levels(hops, side_by_side=False)]
    assert found == [{A: ("note", "ask")}, {P: ("answer",)}, {A: ("read",)}]


def test_publishers_that_send_to_each_other_get_it_in_a_message_of_its_own() -> None:
    """With both hops in one message the second would run on nothing: there are several publishers."""
    hops = (Hop("offer", P, "offer", gives=Kind.CONTROL), Hop("agree", P, "agree", takes=("offer",)))
    for side_by_side in (True, False):
        found = [{stage.role: stage.names for stage in level} for level in levels(hops, side_by_side)]
        assert found == [{P: ("offer",)}, {P: ("agree",)}]
