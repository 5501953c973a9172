"""What this project needs to know of Flower's inside, in one place, behind one test.

Flower 1.41 has no public way to create a `Message` outside its own runtime (`TaskIdentity` must be set) nor to name a
run in a `Grid` of one's own (`Run` is in `Grid`'s signature). Its constructors also check every argument of every
message, which at small batches costs as much as training does: `request`, `reply` and `array` make the same objects
from parts that were checked once. Nothing else of ours imports Flower's internals.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, Metadata, MetricRecord, RecordDict
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 1
COORDINATOR_NODE = 0

__all__ = [
    "COORDINATOR_NODE",
    "RUN_ID",
    "Run",
    "array",
    "arrays",
    "bundle",
    "empty_run",
    "identify",
    "items",
    "metrics",
    "new_context",
    "reply",
    "request",
    "set_message_id",
    "texts",
]


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


def request(content: RecordDict, dst_node_id: int, message_type: str) -> Message:
    """Return what `Message(content, dst_node_id, message_type)` does; Flower checks the first of each kind."""
    checked = _checked(dst_node_id, message_type, TaskIdentity.node_id)
    return _message(content, {**checked.__dict__, "_created_at": time.time()})


def reply(content: RecordDict, to: Message) -> Message:
    """Return what `Message(content, reply_to=to)` does."""
    asked, now = to.metadata.__dict__, time.time()
    swapped = {
        "_message_id": "",
        "_src_node_id": asked["_dst_node_id"],
        "_dst_node_id": asked["_src_node_id"],
        "_src_task_id": asked["_dst_task_id"],
        "_dst_task_id": asked["_src_task_id"],
        "_reply_to_message_id": asked["_message_id"],
        "_created_at": now,
        "_ttl": asked["_created_at"] + asked["_ttl"] - now,
        "_delivered_at": "",
    }
    return _message(content, {**asked, **swapped})


def array(dtype: str, shape: tuple[int, ...], stype: str, data: bytes | bytearray) -> Array:
    """Return what `Array(dtype, shape, stype, data)` does; with a `bytearray`, one that stays in this process."""
    made = Array.__new__(Array)
    made.__dict__.update(dtype=dtype, shape=shape, stype=stype, data=data, _is_dirty=True)
    return made


def arrays(found: Mapping[str, Array]) -> ArrayRecord:
    """Return what `ArrayRecord(found)` does."""
    made = _fresh(_ARRAYS, ArrayRecord, found)
    made.__dict__["_is_dirty"] = True
    return made


def metrics(found: Mapping[str, float]) -> MetricRecord:
    """Return what `MetricRecord(found)` does, which alone looks at values that are no plain floats."""
    if any(type(value) is not float for value in found.values()):
        return MetricRecord(dict(found))
    return _fresh(_METRICS, MetricRecord, found)


def bundle(
    found: Mapping[str, ConfigRecord | MetricRecord], records: Iterable[tuple[str, ArrayRecord]] = ()
) -> RecordDict:
    """Return what `RecordDict({**found, **dict(records)})` does."""
    return _fresh(_RECORDS, RecordDict, {**found, **dict(records)})


def items(record: RecordDict | ArrayRecord) -> dict[str, Any]:
    """Return what a record holds, to be read only."""
    return record.__dict__["_data"]


def texts(fields: dict[str, str]) -> ConfigRecord:
    """Return what `ConfigRecord(fields)` does for text alone."""
    return _fresh(_TEXTS, ConfigRecord, fields)


@lru_cache(maxsize=256)
def _checked(dst_node_id: int, message_type: str, src_node_id: int) -> Metadata:
    return Message(RecordDict(), dst_node_id, message_type).metadata


_Record = TypeVar("_Record", ArrayRecord, ConfigRecord, MetricRecord, RecordDict)
_ARRAYS, _METRICS, _RECORDS, _TEXTS = ArrayRecord(), MetricRecord(), RecordDict(), ConfigRecord()


def _fresh(like: _Record, kind: type[_Record], found: Mapping[str, Any]) -> _Record:
    """Return a record of a kind that checks what is added to it later as `like` does, holding these from the start."""
    made = kind.__new__(kind)
    made.__dict__.update(like.__dict__, _data=dict(found))
    return made


def _message(content: RecordDict, fields: dict[str, object]) -> Message:
    metadata, made = Metadata.__new__(Metadata), Message.__new__(Message)
    metadata.__dict__.update(fields)
    made.__dict__.update(_metadata=metadata, _content=content, _error=None)
    return made
