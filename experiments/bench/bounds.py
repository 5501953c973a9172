"""What bounds a grid's throughput: the same networks cut in two, with parts of what a grid does and no party.

Each is a call that trains some steps and returns the samples it trained on, as the grids' own is.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Literal, cast

import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from experiments.bench.throughput import STEPS_A_CALL, Central, central_of, endless
from experiments.schema import Config
from vfl.compat_flwr import bundle, identify, new_context, reply, request
from vfl.losses import classification_loss
from vfl.seeds import Seeds
from vfl.types import Envelope, Kind, Pool, Step
from vfl.wire import addressed, chain, decode, encode, mail, merge, read_step, step_record, step_text

PUBLISHER, ADVERTISER = "publisher", "advertiser"
NODES = {PUBLISHER: 1, ADVERTISER: 2}
PLAY = "train.play"
Side = Literal["publisher", "advertiser"]


def message_loop(config: Config) -> Callable[[], int]:
    """Return a loop whose bodies travel in three Flower messages a step, each by the functions that the grid uses.

    Two `ClientApp`s in one thread: a header read, an envelope decoded and checked, the work, an envelope encoded and
    hashed. What a party does besides is left out: schedule, limits, duplicates, defenses, guards.
    """
    identify()
    central = central_of(config)
    sides = _Sides(central)
    apps = {name: _app(handle) for name, handle in ((PUBLISHER, sides.publish), (ADVERTISER, sides.advertise))}
    contexts = {name: new_context(node) for name, node in NODES.items()}

    def ask(name: str, header: str, hops: str, kind: Kind | None, before: Message | None) -> Message:
        sent = [] if kind is None or before is None else list(addressed(before.content, kind, name))
        return apps[name](request(merge(step_record(header, hops), sent), NODES[name], PLAY), contexts[name])

    def train(step: Step) -> int:
        sides.step, header = step, step_text(step)
        embedding = ask(PUBLISHER, header, "forward", None, None)
        gradient = ask(ADVERTISER, header, "own|fuse|finish", Kind.EMBEDDING, embedding)
        ask(PUBLISHER, header, "backward", Kind.GRADIENT, gradient)
        return step.size

    steps = endless(config, central.rows)
    return lambda: sum(train(step) for step in itertools.islice(steps, STEPS_A_CALL))


@contextmanager
def side_by_side(config: Config) -> Iterator[Callable[[], int]]:
    """Yield a loop of two processes, each with one side's work on bodies of its own, that never wait for each other.

    No grid on two cores can be faster: nothing is sent, hashed or awaited but the end of some steps.
    """
    spawn = multiprocessing.get_context("spawn")
    pipes = [spawn.Pipe() for _ in NODES]
    workers = [
        spawn.Process(target=work_alone, args=(config, side, theirs), daemon=True)
        for side, (_, theirs) in zip(NODES, pipes, strict=True)
    ]
    for worker in workers:
        worker.start()
    ours = [mine for mine, _ in pipes]

    def work() -> int:
        for pipe in ours:
            pipe.send(True)
        return min(cast(int, pipe.recv()) for pipe in ours)

    try:
        work()
        yield work
    finally:
        for pipe in ours:
            pipe.send(False)
        for worker in workers:
            worker.join(10)


def work_alone(config: Config, side: Side, pipe: Connection) -> None:
    """Do one side's work for some steps whenever the pipe says so, until it says no."""
    torch.set_num_threads(1)
    central = central_of(config)
    steps, sides = endless(config, central.rows), _Sides(central)
    body = torch.randn(
        config.train.batch_size + 1, config.model.embedding_dim, generator=Seeds(config.seed).torch("bounds")
    )
    while pipe.recv():
        done = 0
        for step in itertools.islice(steps, STEPS_A_CALL):
            sides.step = step
            given = body[: step.size].clone()
            if side == PUBLISHER:
                sides.forward()
                sides.backward(given)
            else:
                sides.fuse(given)
            done += step.size
        pipe.send(done)


class _Sides:
    """The work of both sides of vanilla training, each with an optimizer of its own, on the rows of `step`."""

    def __init__(self, central: Central) -> None:
        self._central, (self._theirs, self._ours), self._top = central, central.bottoms, central.top
        self._publisher = central.optimizer(self._theirs.parameters())
        self._advertiser = central.optimizer([*self._ours.parameters(), *self._top.parameters()])
        self._embedding = torch.empty(0)
        self._links = {PUBLISHER: b"", ADVERTISER: b""}
        self.step = Step(0, "train", Pool.TRAIN)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the handles of the step's rows and the publisher's embedding, `(rows, width)`."""
        batch = self._central.batches(self.step)[0]
        self._embedding = self._theirs(batch)
        return batch.rows, self._embedding

    def backward(self, gradient: Tensor) -> None:
        """Update the publisher's network with the gradient of its embedding."""
        self._publisher.zero_grad()
        self._embedding.backward(gradient)
        self._publisher.step()

    def fuse(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Update the advertiser's networks; return the handles and the gradient of the embedding, `(rows, width)`."""
        _, batch, labels = self._central.batches(self.step)
        self._advertiser.zero_grad()
        own = self._ours(batch)
        leaves = [embedding.requires_grad_(), own.detach().requires_grad_()]
        classification_loss(self._top(torch.cat(leaves, dim=1)), labels).backward()
        own.backward(leaves[1].grad)
        self._advertiser.step()
        return batch.rows, cast(Tensor, leaves[0].grad)

    def publish(self, content: RecordDict) -> RecordDict:
        """Answer the publisher's messages: with its embedding, or after an update with nothing."""
        _, hops = read_step(content)
        if hops == ("forward",):
            return self._sent(Kind.EMBEDDING, PUBLISHER, ADVERTISER, *self.forward())
        self.backward(_body(content))
        return RecordDict()

    def advertise(self, content: RecordDict) -> RecordDict:
        """Answer the advertiser's message with the gradient."""
        read_step(content)
        return self._sent(Kind.GRADIENT, ADVERTISER, PUBLISHER, *self.fuse(_body(content)))

    def _sent(self, kind: Kind, src: str, dst: str, rows: Tensor, body: Tensor) -> RecordDict:
        key, record = encode(Envelope(self.step.index, kind, src, dst, rows, body), "raw")
        self._links[src] = chain(self._links[src], key, record)
        return bundle({}, [(key, record)])


def _body(content: RecordDict) -> Tensor:
    ((key, record),) = mail(content).items()
    return decode(key, record).body


def _app(handle: Callable[[RecordDict], RecordDict]) -> ClientApp:
    app = ClientApp()

    @app.train("play")
    def play(message: Message, context: Context) -> Message:  # pyright: ignore[reportUnusedFunction] - Flower has it
        return reply(handle(message.content), message)

    return app
