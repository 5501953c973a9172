"""Modules, optimizers and loose tensors <-> one safetensors file: no pickle, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vfl.errors import DataError
from vfl.whole import write_whole


def flatten(parts: Mapping[str, nn.Module | Optimizer]) -> dict[str, Tensor]:
    """Return every tensor of the parts' state under a dotted name."""
    found: dict[str, Tensor] = {}
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            found.update({f"{name}.{key}": value for key, value in part.state_dict().items()})
        else:
            found.update({f"{name}.{key}": value for key, value in _optimizer_tensors(part).items()})
    return {key: value.detach().clone().contiguous() for key, value in found.items()}


def restore(parts: Mapping[str, nn.Module | Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Put tensors that `flatten` gave back into parts of the same shape."""
    for name, part in parts.items():
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        if isinstance(part, nn.Module):
            part.load_state_dict(own)
        else:
            part.load_state_dict({"state": _optimizer_state(own), "param_groups": part.state_dict()["param_groups"]})


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
    """Write tensors and JSON-able facts to `path`, with a checksum of both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(facts))
    metadata = {"facts": text, "sha256": _checksum(tensors, text)}
    write_whole(path, safetensors.torch.save(dict(tensors), metadata=metadata))


def save_shared(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
    """Do as `save` where processes, of one machine or several, may write the same file at once: the last one stays."""
    own = path.with_name(f"{path.stem}-{secrets.token_hex(8)}{path.suffix}")
    save(own, tensors, facts)
    own.replace(path)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and facts of a file that `save` wrote; raises `DataError` if it is not as it was written."""
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 - not a mapping
            metadata = stream.metadata() or {}
        if metadata["sha256"] != _checksum(tensors, metadata["facts"]):
            raise ValueError("its checksum is wrong")
        facts = json.loads(metadata["facts"])
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        message = f"got a checkpoint that is not as it was written ({error}); a copy or an earlier one may be whole"
        raise DataError(message, where=str(path)) from None
    return tensors, facts


def _checksum(tensors: Mapping[str, Tensor], facts: str) -> str:
    """Return the SHA-256 over names, types, shapes and bytes; safetensors itself finds a file cut short, no more."""
    found = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        found.update(f"|{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        if value.numel():
            found.update(memoryview(value.reshape(-1).view(torch.uint8).numpy()))  # pyright: ignore[reportArgumentType] - numpy's stubs hide its buffer
    return found.hexdigest()


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": torch.as_tensor(value) for index, entry in state.items() for key, value in entry.items()}


def _optimizer_state(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    return state
