"""Checkpoints: weights, model card and network settings in one safetensors file.

The file's header carries the card, the settings and the training's recipe as JSON, so that they are
read without torch and without the weights. Filters may be stored in half precision; they are always
loaded as float32.
"""

import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from geo_retina.card import ModelCard
from geo_retina.errors import ModelError, OutputError, WriteError
from geo_retina.model.settings import NetworkSettings
from geo_retina.whole_files import DISK_FULL, whole_file
from geo_retina.wording import shown

if TYPE_CHECKING:
    from geo_retina.model.retinanet import RetinaNet

FORMAT_VERSION = "1"
SUFFIX = ".safetensors"
_LENGTH_BYTES = 8
_GRAPHS = {".onnx", ".xml"}
_COUNTER = "num_batches_tracked"  # of batch norm; of no use after training


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a checkpoint says about itself."""

    path: Path
    card: ModelCard
    network: NetworkSettings
    recipe: str | None = None
    """All settings of the training that made it, as JSON text; `geo-retina train` takes it too.
    None where the checkpoint does not tell, for instance because it was converted."""


def bundled_models() -> dict[str, Path]:
    """Paths of the checkpoints that ship with the package, by model name."""
    folder = Path(str(resources.files("geo_retina.model") / "weights"))
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find_checkpoint(model: str | Path) -> Path:
    """Path of a checkpoint, given its path or the name of a bundled model.

    Raises:
        ModelError: Neither a file nor a bundled model, or a graph exported from one.
    """
    if not isinstance(model, str | os.PathLike):
        raise ModelError(
            f"expected the name of a bundled model or the path of a checkpoint, got {shown(model)}"
        )
    bundled = bundled_models()
    if str(model) in bundled:
        return bundled[str(model)]
    path = Path(model)
    if path.suffix.lower() in _GRAPHS:
        raise ModelError(
            f"expected the name of a bundled model or a checkpoint NAME{SUFFIX}, got the exported "
            f"graph {model}; name the checkpoint that it was made from: OpenVINO graphs beside "
            "that are found and used, ONNX files are for other programs"
        )
    if path.is_file():
        return path
    known = ", ".join(bundled) or "none"
    if path.suffix or len(path.parts) > 1:
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ModelError(
            f"{model} {what}: expected the path of a {SUFFIX} checkpoint, such as what "
            f"`geo-retina train` wrote, or one of the bundled models: {known}"
        )
    raise ModelError(
        f"unknown model {str(model)!r}: expected the path of a {SUFFIX} checkpoint or one of the "
        f"bundled models ({known})"
    )


def read_info(model: str | Path) -> CheckpointInfo:
    """Read the card and the network settings of a checkpoint; neither torch nor weights load.

    Raises:
        ModelError: No such model, not a checkpoint of geo_retina, or its header is damaged.
    """
    path = find_checkpoint(model)
    header = _read_header(path)
    if header.get("format") != f"geo_retina {FORMAT_VERSION}":
        raise ModelError(
            f"{path} is not a checkpoint of this version: its format is {header.get('format')!r}, "
            f"expected 'geo_retina {FORMAT_VERSION}'; update geo_retina or convert the file"
        )
    try:
        card = ModelCard.model_validate_json(header["card"])
        network = NetworkSettings.model_validate_json(header["network"])
    except (KeyError, ValidationError) as error:
        raise ModelError(f"the header of {path} is damaged: {error}") from error
    _check_agreement(card, network, str(path))
    return CheckpointInfo(path, card, network, header.get("recipe"))


def load_network(info: CheckpointInfo) -> "RetinaNet":
    """Build the network of a checkpoint and fill it with its weights, in float32.

    Raises:
        ModelError: The weights are damaged or do not fit the settings.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from geo_retina.model.retinanet import build_retinanet

    try:
        network = build_retinanet(info.network)
        state = {name: tensor.float() for name, tensor in load_file(info.path).items()}
        counters = {n: t for n, t in network.state_dict().items() if n.endswith(_COUNTER)}
        network.load_state_dict(state | counters)
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"the weights of {info.path} cannot be used: {error}") from error
    return network.eval()


def save_checkpoint(
    path: Path,
    network: "RetinaNet",
    card: ModelCard,
    *,
    recipe: str | None = None,
    half_precision: bool = False,
) -> None:
    """Write weights, card and settings to `path`; the file appears only when whole.

    Args:
        path: Where to; a file that is there is replaced.
        network: The weights, on any device.
        card: What the model is for; must agree with the network.
        recipe: All settings of its training as JSON text, to be kept beside the card.
        half_precision: Store filters and matrices as float16, half the size. Biases, norms and
            their statistics stay float32: they are small, and variances leave float16's range.

    Raises:
        ModelError: The card names other classes or bands than the network has.
        OutputError: The file cannot be written.
        WriteError: The disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    _check_agreement(card, network.settings, "the checkpoint to write")
    state = {
        name: (tensor.half() if half_precision and tensor.ndim > 1 else tensor)
        .detach()
        .cpu()
        .contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith(_COUNTER)
    }
    try:
        with whole_file(path, error=OutputError) as begun:
            save_file(state, begun, metadata=header_of(card, network.settings, recipe))
            _sort_metadata(begun)
            begun.chmod(0o644)  # safetensors writes it for its owner alone
    except SafetensorError as error:
        if any(f"os error {number})" in str(error) for number in DISK_FULL):
            raise WriteError(f"cannot write the checkpoint {path}: {error}; make room") from error
        raise OutputError(f"cannot write the checkpoint {path}: {error}") from error


def header_of(
    card: ModelCard, network: NetworkSettings, recipe: str | None = None
) -> dict[str, str]:
    """Metadata of a checkpoint file."""
    told = {} if recipe is None else {"recipe": recipe}
    return {
        "format": f"geo_retina {FORMAT_VERSION}",
        "card": card.model_dump_json(),
        "network": network.stated().model_dump_json(),
        **told,
    }


def _check_agreement(card: ModelCard, network: NetworkSettings, what: str) -> None:
    if (len(card.class_names), len(card.bands)) != (network.num_classes, network.in_bands):
        raise ModelError(
            f"{what}: the card names {len(card.class_names)} classes and {len(card.bands)} bands, "
            f"the network has {network.num_classes} and {network.in_bands}; mend the card"
        )


def _sort_metadata(path: Path) -> None:
    """Put the metadata in the order of their keys: equal checkpoints are then equal files.

    safetensors writes them in an order that changes from run to run.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:  # never seen otherwise; the rest of the file must not move
            file.seek(_LENGTH_BYTES)
            file.write(text.ljust(length))


def _read_header(path: Path) -> dict[str, str]:
    """The `__metadata__` of a safetensors file: 8 bytes of length, then JSON."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if length > size - _LENGTH_BYTES:
                raise ModelError(f"{path} is not a {SUFFIX} checkpoint, or it is cut short")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ModelError(f"cannot read the checkpoint {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not a {SUFFIX} checkpoint") from error
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(t, str) for t in metadata.values()):
        return {}
    return metadata
