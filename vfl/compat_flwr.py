"""The two internal Flower names this project needs, in one place, behind one test.

Flower 1.41 has no public way to create a `Message` outside its own runtime (`TaskIdentity` must be set) nor to name a
run in a `Grid` of one's own (`Run` is in `Grid`'s signature). Nothing else of ours imports Flower's internals.
"""

from __future__ import annotations

from flwr.app import Context, Message, RecordDict
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 1
COORDINATOR_NODE = 0

__all__ = ["COORDINATOR_NODE", "RUN_ID", "Run", "empty_run", "identify", "new_context", "set_message_id"]


def identify(node_id: int = COORDINATOR_NODE) -> None:
    """Tell Flower which node this process is, once, so that it may create messages."""
    TaskIdentity.run_id = RUN_ID
    TaskIdentity.node_id = node_id
    TaskIdentity.task_id = 0


def empty_run() -> Run:
    """Return the `Run` record that a `Grid` must be able to name."""
    return Run.create_empty(RUN_ID)


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message its id, as Flower's own grids do when they accept one."""
    message.metadata.__dict__["_message_id"] = message_id


def new_context(node_id: int) -> Context:
    """Return a fresh Flower context for one node of a simulated run."""
    return Context(run_id=RUN_ID, node_id=node_id, node_config={}, state=RecordDict(), run_config={}, series_id=RUN_ID)
