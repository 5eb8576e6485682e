"""The state of unfinished work: nested values and tensors in one safetensors file, no pickle."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mechprobe.runs.files import atomic_path, unreadable


@dataclass(frozen=True)
class Checkpoint:
    """Where work keeps what it needs to go on after a kill.

    Values come back as they were: tensors (on the CPU) and NumPy arrays bit by bit, Python ints
    and floats exactly, dicts with keys of any plain type, lists, tuples, text, None.

    Attributes:
        path: the file.
        wrote: what the work has written so far, paths inside its run; kept beside the state.
        recall: told, when a state is loaded, what was written before it was saved.
    """

    path: Path
    wrote: Callable[[], list[str]] = list
    recall: Callable[[list[str]], None] | None = None

    def save(self, state: dict) -> None:
        """Replace the saved state, in one step.

        Raises:
            TypeError: a value that is none of the above; it is named by its place in the state.
        """
        import torch
        from safetensors.torch import save_file

        tensors: dict[str, torch.Tensor] = {}
        shape = json.dumps(_pack(state, "state", tensors))
        with atomic_path(self.path) as draft:
            wrote = json.dumps(self.wrote())
            save_file(_separate(tensors), draft, {"state": shape, "wrote": wrote})

    def load(self) -> dict | None:
        """The state saved last; None when there is none.

        Raises:
            InputError: the file is damaged; it is named.
        """
        from safetensors import SafetensorError, safe_open

        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                kept = file.metadata() or {}
                shape, wrote = json.loads(kept["state"]), json.loads(kept.get("wrote", "[]"))
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise unreadable(self.path, error) from None
        if self.recall is not None:
            self.recall(wrote)
        return _unpack(shape, tensors)

    def delete(self) -> None:
        """Remove the saved state; nothing happens when there is none."""
        self.path.unlink(missing_ok=True)


def _pack(value: Any, place: str, tensors: dict) -> Any:
    """A JSON picture of the value: scalars as they are, all else as {kind: content}."""
    import torch

    match value:
        case np.ndarray() | np.generic():
            name = str(len(tensors))
            tensors[name] = torch.from_numpy(np.array(value))
            return {"array": name} if isinstance(value, np.ndarray) else {"scalar": name}
        case torch.Tensor():
            name = str(len(tensors))
            tensors[name] = value.detach().cpu()
            return {"tensor": name}
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": repr(value)}
        case list() | tuple():
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [_pack(v, f"{place}[{i}]", tensors) for i, v in enumerate(value)]}
        case dict():
            rows = [
                [_pack(k, f"{place} key", tensors), _pack(v, f"{place}[{k!r}]", tensors)]
                for k, v in value.items()
            ]
            return {"dict": rows}
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__} ({place}); give tensors, "
                    "arrays, numbers, text, None, lists, tuples and dicts of them")


def _unpack(picture: Any, tensors: dict) -> Any:
    if not isinstance(picture, dict):
        return picture
    ((kind, content),) = picture.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "array":
            return tensors[content].numpy()
        case "scalar":
            return tensors[content].numpy()[()]
        case "float":
            return float(content)
        case "dict":
            return {_unpack(k, tensors): _unpack(v, tensors) for k, v in content}
    items = [_unpack(v, tensors) for v in content]
    return items if kind == "list" else tuple(items)


def _separate(tensors: dict) -> dict:
    """Contiguous tensors that share no memory (tied weights do), as safetensors wants them."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        own = tensor.contiguous()
        if own.untyped_storage().data_ptr() in seen and own.numel():
            own = own.clone()
        seen.add(own.untyped_storage().data_ptr())
        out[name] = own
    return out
