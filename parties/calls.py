"""What a party does at each of the coordinator's control calls; `parties.controls` says which there are, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from flwr.app import ConfigRecord, Message, RecordDict

from parties.controls import GREETINGS, Given, check_turn, read_call
from parties.gate import FLAGS_FILE
from parties.memory import peak_rss_mb
from parties.party import Party
from parties.renewing import renew
from parties.saved import restore_step, save, save_step
from vfl import checkpoint
from vfl.channel import Channel
from vfl.compat_flwr import metrics, reply
from vfl.errors import WireError
from vfl.types import Role
from vfl.wire import CONTROL_KEY, REPORT_KEY

Answer = ConfigRecord | dict[str, float]


def control(party: Party, name: str, message: Message) -> Message:
    """Answer one of the coordinator's control calls, which carry no envelope and are not on the transcript."""
    party.entry.admit(message.content)
    call, given = read_call(party.spec.party, name, message.content)
    if party.was_called(message.content):
        return reply(party.called[1], message)
    if name not in GREETINGS:
        party.require_met()
    check_turn(party.spec.party, name, party.prepared)
    content = RecordDict()
    answer = ANSWERS[name](party, given)
    if isinstance(answer, ConfigRecord):
        content[CONTROL_KEY] = answer
    else:
        content[REPORT_KEY] = metrics(answer)
    party.called = (call, content)
    return reply(content, message)


def _hello(party: Party, given: Given) -> Answer:
    """Begin anew: a channel with fresh keys, no step acted on, and nothing recorded unless the run is resumed.

    Raises `WireError` where this party's folder holds a finished run: masks and secrets are not to be used again.
    """
    spec, outbox = party.spec, party.outbox
    absent = frozenset(filter(None, str(given["absent"]).split("|")))
    if strangers := absent - {*spec.roster.of(Role.PUBLISHER)}:
        raise WireError(f"{spec.party} is to do without {', '.join(sorted(strangers))[:40]}, no publisher")
    final = spec.path("checkpoints", "final.safetensors")
    if given["fresh"] and final is not None and final.is_file():
        raise WireError(f"{spec.party} has finished this run, and takes part in it once; begin another one")
    party.entry.reset()
    party.schedule.reset()
    party.go_on_without(absent)
    party.prepared = False
    if outbox.recorder and given["fresh"]:
        outbox.recorder.cut_back(0)
    if party.channel is None:
        return ConfigRecord()
    party.use(Channel(spec.party, spec.credentials))
    return ConfigRecord({"hello": party.channel.hello()})


def _meet(party: Party, given: Given) -> Answer:
    """Take the greetings of all others; raises `WireError` where one lacks, or is of nobody in the run."""
    me, roster = party.spec.party, party.spec.roster
    if party.channel is None:
        if given:
            raise WireError(f"{me} got greetings, and this run seals nothing; it takes none")
        return ConfigRecord()
    hellos = {other: greeting for other, greeting in given.items() if isinstance(greeting, bytes)}
    missing = [other for other in roster.ids() if other not in hellos and other not in party.absence.absent]
    strangers = [other for other in given if other not in hellos or other not in roster.ids()]
    if missing or strangers:
        odd = f"without {', '.join(missing)}" if missing else f"of {', '.join(strangers)}, who takes no part"
        raise WireError(f"{me} got greetings {odd}; it takes one of every party, and of nobody else")
    party.channel.meet(hellos)
    return ConfigRecord()


def _prepare(party: Party, given: Given) -> Answer:
    return party.prepare()


def _checkpoint(party: Party, given: Given) -> Answer:
    save_step(party, cast(int, given["step"]))
    return {}


def _restore(party: Party, given: Given) -> Answer:
    return restore_step(party, cast(int, given["step"]))


def _recall(party: Party, given: Given) -> Answer:
    """Bring the weights of the best epoch back, before the test."""
    if party.kept:
        checkpoint.restore(party.modules(), party.kept)
    return {}


def _renew(party: Party, given: Given) -> Answer:
    phase, epoch = str(given["phase"]), cast(int, given["epoch"])
    if phase not in (each.name for each in party.schedule.phases):
        raise WireError(f"{party.spec.party} is to renew before phase {phase[:40]!r}, which its plan does not have")
    return {"renewed": float(renew(party.player.parts(), party.spec.seeds, (phase, epoch)))}


def _finish_run(party: Party, given: Given) -> Answer:
    outbox = party.outbox
    if outbox.recorder:
        outbox.recorder.flush()
    save(party, "final", -1)
    party.player.close()
    chains = {f"chain/{other}": link.hex() for other, link in outbox.chains.items()}
    counts = {f"bytes/{kind.value}": count for kind, count in outbox.sent_bytes.items()}
    return ConfigRecord({"peak_rss_mb": peak_rss_mb(), **chains, **counts, **_flags(party)})


def _flags(party: Party) -> dict[str, list[int]]:
    """Write which rows the guards flagged to this party's own folder, and return how many."""
    path = party.spec.path(FLAGS_FILE)
    if path is not None and party.gate.posted:
        checkpoint.save(path, party.gate.flags(), {})
    return party.gate.report()


ANSWERS: dict[str, Callable[[Party, Given], Answer]] = {
    "hello": _hello,
    "meet": _meet,
    "prepare": _prepare,
    "checkpoint": _checkpoint,
    "restore": _restore,
    "recall": _recall,
    "renew": _renew,
    "finish_run": _finish_run,
}
