"""A party that is made anew for every message, out of what Flower's context holds, sends what a lasting one sends."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from flwr.app import ConfigRecord, Message
from harness import config, digest, train

from parties.faults import Faults, faulty
from parties.local import LocalCarrier, make_party
from parties.resident import Resident
from parties.spec_file import read, write
from parties.stateless import answer
from vfl.checkpoint import load
from vfl.compat_flwr import reply
from vfl.errors import DataError, PartyGoneError, WireError
from vfl.grid import PartyGrid
from vfl.seeds import Seeds
from vfl.types import Role
from vfl.wire import CALL_KEY, CONTROL_KEY, STEP_KEY, mail, merge, read_step, step_record


class MadeAnew(LocalCarrier):
    """Keeps contexts and specs, and no party."""

    specs: dict

    def carry(self, messages):
        """In turn: a real SuperNode's processes share nothing, threads share the parser of Python's own sources."""
        return [self._call(message) for message in messages]

    def _call(self, message):
        node = message.metadata.dst_node_id
        return answer(make_party, self.specs[self._roster.party(node)], message, self._contexts[node])


def made_anew(specs, asked, largest):
    roster = specs[0].roster
    carrier = MadeAnew(roster, {spec.party: None for spec in specs})
    carrier.specs = {spec.party: spec for spec in specs}
    return PartyGrid(roster, carrier, "relay")


ONE = {"epochs": 1, "batch_size": 128}
STACK = [{"name": "tpsl", "epsilon": 4.0}, {"name": "marvell", "s": 4.0}, {"name": "dropout"}, {"name": "mid"}]


@pytest.mark.parametrize(
    "changed",
    [
        {"wire": {"channel": "on"}, "train": {**ONE, "select": "best_valid"}},
        {"align": {"name": "ecdh_psi", "overlap": 0.4}, "defense": STACK, "train": ONE},
        {"method": {"name": "celu", "cache": 2}, "train": ONE},
    ],
)
def test_it_ends_in_the_digest_of_lasting_parties(tmp_path, changed):
    asked = config(**changed)
    found = train(asked, tmp_path / "anew", made_anew)
    lasting = train(asked, tmp_path / "lasting")
    assert digest(found) == digest(lasting)
    assert found.progress.losses == lasting.progress.losses
    scores = [load(tmp_path / name / "referee" / "scores.safetensors")[0] for name in ("anew", "lasting")]
    assert all(torch.equal(scores[0][name], scores[1][name]) for name in ("rows", "scores"))


def test_a_replayed_step_is_refused_by_the_next_process(tmp_path):
    """What tells it so is in the context, as everything else."""

    class Replaying(MadeAnew):
        def carry(self, messages):
            for message in messages:
                if message.metadata.message_type.startswith("train."):
                    self.kept.append(message)
                    if len(self.kept) == 12:
                        old = self.kept[0]
                        again = Message(old.content, old.metadata.dst_node_id, old.metadata.message_type)
                        with pytest.raises(WireError, match="replayed or reordered"):
                            self._call(again)
            return super().carry(messages)

    def make(specs, asked, largest):
        grid = made_anew(specs, asked, largest)
        carrier = Replaying(grid.roster, {spec.party: None for spec in specs})
        carrier.specs, carrier.kept = grid.carrier.specs, []
        return PartyGrid(grid.roster, carrier, "relay")

    train(config(train=ONE), tmp_path, make)


def test_a_round_under_a_later_step_is_refused_by_the_next_process_and_leaves_no_trace(tmp_path):
    """The place in the plan is in the context; a refused message does not end the round at hand."""

    class Replaying(MadeAnew):
        def carry(self, messages):
            found = super().carry(messages)
            for message in messages:
                if message.metadata.message_type == "train.play" and not mail(message.content):
                    step, names = read_step(message.content)
                    first.append((step, names))
                    for later in (1, 2, 3):
                        content = step_record(replace(first[0][0], index=step.index + later), names)
                        with pytest.raises(WireError, match="each round once, in the order of the plan"):
                            self._call(Message(merge(content, []), message.metadata.dst_node_id, "train.play"))
            return found

    def make(specs, asked, largest):
        carrier = Replaying(specs[0].roster, {spec.party: None for spec in specs})
        carrier.specs = {spec.party: spec for spec in specs}
        return PartyGrid(specs[0].roster, carrier, "relay")

    first = []
    asked = config(train={**ONE, "batch_size": 200})
    assert digest(train(asked, tmp_path, make)) == digest(train(asked))
    assert len(first) > 1


THREE = {"name": "columns", "one": ["mean_radius"], "two": ["mean_area", "mean_texture"], "advertiser": []}


class GoneForGood(MadeAnew):
    """Here the publisher `two` dies for good after a checkpoint."""

    gone = excused = False

    def carry(self, messages):
        for message in messages:
            late = STEP_KEY in message.content and read_step(message.content)[0].index >= 4
            self.gone |= late
            if self.gone and self._roster.party(message.metadata.dst_node_id) == "two":
                raise PartyGoneError("two died", "two")
        return super().carry(messages)

    def excuse(self, party):
        self.excused = True

    def revive(self):
        if not self.excused:
            raise PartyGoneError("two stayed away", "two")


class Lasting(GoneForGood):
    def _call(self, message):
        return LocalCarrier._call(self, message)

    def revive(self):
        super().revive()
        LocalCarrier.revive(self)


def test_it_goes_on_without_a_publisher_as_lasting_parties_do(tmp_path):
    """Who is absent is in the context of the others."""

    def make(kind, specs):
        def parties():
            return {spec.party: make_party(spec) if kind is Lasting else None for spec in specs}

        carrier = kind(specs[0].roster, parties(), parties)
        carrier.specs = {spec.party: spec for spec in specs}
        return PartyGrid(specs[0].roster, carrier, "relay")

    asked = config(
        train={**ONE, "checkpoint_every": 1},
        split=THREE,
        wire={"channel": "on"},
        defense=[{"name": "gaussian_noise", "ratio": 0.1}],
        faults={"restarts": 0, "without": "impute"},
    )
    anew = train(asked, tmp_path / "anew", lambda specs, asked, largest: make(GoneForGood, specs))
    lasting = train(asked, tmp_path / "lasting", lambda specs, asked, largest: make(Lasting, specs))
    assert "two" in anew.absent
    assert digest(anew) == digest(lasting)


@pytest.mark.parametrize("spoil", ["repeated", "refused"])
def test_a_greeting_that_is_not_taken_does_not_bless_a_stale_state(tmp_path, spoil):
    """A copy of a state, gone on from elsewhere, would seal under nonces that were used."""
    told = []

    class Stale(MadeAnew):
        def _call(self, message):
            node, kind = message.metadata.dst_node_id, message.metadata.message_type
            stale = copy.deepcopy(self._contexts[node])
            found = super()._call(message)
            if node == 1 and kind == f"query.{'meet' if spoil == 'repeated' else 'prepare'}" and not told:
                self._after(stale, self.hello, message)
            if kind == "query.hello":
                self.hello = message
            return found

        def _after(self, stale, hello, message):
            content = hello.content.copy()
            if spoil == "refused":
                content[CONTROL_KEY] = ConfigRecord({**content[CONTROL_KEY], "absent": "stranger", CALL_KEY: "new"})
            for each in (Message(content, 1, "query.hello"), message):
                with pytest.raises((PartyGoneError, WireError)) as caught:
                    answer(make_party, self.specs[self._roster.party(1)], each, stale)
                told.append(str(caught.value))

    def make(specs, asked, largest):
        carrier = Stale(specs[0].roster, {spec.party: None for spec in specs})
        carrier.specs = {spec.party: spec for spec in specs}
        return PartyGrid(specs[0].roster, carrier, "relay")

    train(config(wire={"channel": "on"}, train=ONE), tmp_path, make)
    assert "its state is not what its last process left" in told[1]


@pytest.mark.parametrize("channel", ["on", "off"])
def test_messages_that_come_twice_are_acted_on_once(tmp_path, channel):
    def make(specs, asked, largest):
        made.append(faulty(made_anew(specs, asked, largest), Faults(duplicate=0.4), Seeds(3)))
        return made[0]

    made = []
    asked = config(wire={"channel": channel}, train=ONE)
    assert digest(train(asked, tmp_path, make)) == digest(train(asked))
    assert made[0].carrier.counts["duplicate"] > 5


def test_a_party_begins_anew_where_it_dies_before_any_checkpoint(tmp_path):
    """And where a state is not the one that its last process left: two processes would seal under one nonce."""
    copies = []

    class Forked(MadeAnew):
        def _call(self, message):
            node = message.metadata.dst_node_id
            if message.metadata.message_type == "train.play" and node == 1 and not copies:
                copies.append(copy.deepcopy(self._contexts[node]))
                super()._call(message)
                self._contexts[node] = copies[0]
            return super()._call(message)

        def revive(self):
            copies.append("revived")

    def make(specs, asked, largest):
        carrier = Forked(specs[0].roster, {spec.party: None for spec in specs})
        carrier.specs = {spec.party: spec for spec in specs}
        return PartyGrid(specs[0].roster, carrier, "relay")

    asked = config(wire={"channel": "on"}, train=ONE, align={"name": "ecdh_psi"}, faults={"restarts": 1})
    found = train(asked, tmp_path, make)
    assert copies[1:] == ["revived"]
    assert digest(found) == digest(train(asked))


def test_a_resident_party_begins_anew_with_every_greeting(tmp_path):
    class Residents(LocalCarrier):
        def carry(self, messages):
            return [self._call(message) for message in messages]

        def _call(self, message):
            node = message.metadata.dst_node_id
            if message.metadata.message_type == "train.play" and not died:
                died.append(node)
                raise PartyGoneError("publisher died", "publisher")
            return reply(residents[node].answer(message.metadata.message_type, message.content), message)

        def revive(self):
            """Their owners have not ended those that live."""

    died, residents = [], {}

    def make(specs, asked, largest):
        residents.update({spec.roster.node(spec.party): Resident(spec) for spec in specs})
        return PartyGrid(specs[0].roster, Residents(specs[0].roster, {spec.party: None for spec in specs}), "relay")

    asked = config(wire={"channel": "on"}, train=ONE, align={"name": "ecdh_psi"}, faults={"restarts": 1})
    assert digest(train(asked, tmp_path, make)) == digest(train(asked))
    assert died


def test_a_party_file_says_all_that_the_spec_says_and_is_for_its_owner(tmp_path):
    """And a party started from files ends in the same digest."""
    made = []

    def through_files(specs):
        for spec in specs:
            folder = tmp_path / spec.party
            folder.mkdir()
            write(folder / "party.json", spec, "run")
            assert (folder / "party.json").stat().st_mode & 0o077 == 0
            made.append(read(folder / "party.json"))
            told = {name: getattr(made[-1], name) for name in ("shard", "seeds", "shared", "model", "train", "roster")}
            assert told == {name: getattr(spec, name) for name in told}
        return made

    asked = config(defense=[{"name": "marvell", "s": 4.0}], align={"overlap": 0.5})
    assert digest(train(asked, edit=through_files)) == digest(train(asked))


def test_a_party_file_of_your_own_tables_names_no_other_partys_file(tmp_path):
    from experiments.plan import open_world, party_specs

    (tmp_path / "a.csv").write_text("id,x\n" + "".join(f"{row},{row % 7}\n" for row in range(60)))
    (tmp_path / "b.csv").write_text("id,y,buys\n" + "".join(f"{row},{row % 5},{row % 2}\n" for row in range(60)))
    data = {"name": "csv", "publisher": str(tmp_path / "a.csv"), "advertiser": str(tmp_path / "b.csv")}
    asked = config(data={**data, "key": "id", "label": "buys"})
    for spec in party_specs(asked, open_world(asked), None):
        if spec.role != Role.REFEREE:
            write(tmp_path / f"{spec.party}.json", spec, "run")
            text = (tmp_path / f"{spec.party}.json").read_text()
            assert ("a.csv" in text, "b.csv" in text) == (spec.party == "publisher", spec.party == "advertiser")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"party": 3}'])
def test_what_is_no_party_file_is_refused(tmp_path, text):
    (tmp_path / "party.json").write_text(text)
    with pytest.raises(DataError, match="no party file"):
        read(tmp_path / "party.json")
