"""Read the tensors of a weights file of another project."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from geo_retina.errors import ModelError

_INNER_KEYS = ("state_dict", "model_state_dict", "model")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a `.safetensors` file or of one that `torch.save` wrote.

    A training checkpoint (Lightning and others) is entered at its `state_dict`,
    `model_state_dict` or `model`. Nothing but plain data is unpickled: a file cannot run code.

    Raises:
        ModelError: The file is missing or damaged, holds other objects, or has no tensors.
    """
    loaded = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickled(path)
    for key in _INNER_KEYS:
        inner = loaded.get(key)
        if isinstance(inner, Mapping):
            loaded = inner
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(
            f"{path} holds no weights: expected named tensors, or such under one of "
            f"{', '.join(_INNER_KEYS)}; it has {', '.join(map(str, list(loaded)[:5])) or 'nothing'}"
        )
    return tensors


def _load_safetensors(path: Path) -> Mapping[str, object]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: Mapping[str, object] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read the weights {path}: {error}") from error
    return found


_NO_PICKLE = (LookupError, ValueError, TypeError, AttributeError)
"""What other files than pickles end in, text for instance."""


def _load_pickled(path: Path) -> Mapping[str, object]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, *_NO_PICKLE) as error:
        raise ModelError(
            f"cannot read the weights {path} ({_first_line(error)}); a file that holds more than "
            "tensors and plain data is refused: if you trust it, load it yourself and save its "
            "state_dict() alone"
        ) from error
    if not isinstance(found, Mapping):
        raise ModelError(f"{path} holds a {type(found).__name__}, expected a state dictionary")
    return found


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
