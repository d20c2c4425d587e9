"""Exported graphs that lie beside a checkpoint: which there are, and whether they belong to it.

`NAME.openvino-int8.xml` with its `.bin` is the graph of `NAME.safetensors` in OpenVINO's format.
Its metadata names the network it was made from and the content of the `.bin`, so that a graph of
other weights is never used in its place, and tells what was measured. Neither torch nor OpenVINO is
needed to read that.
"""

import hashlib
import json
import logging
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from geo_retina.errors import ModelError
from geo_retina.model.checkpoint import CheckpointInfo

_log = logging.getLogger(__name__)

Precision = Literal["int8", "fp32"]

_PRECISIONS: dict[str, Precision] = {"int8": "int8", "fp32": "fp32"}  # the fastest first

LARGEST_AP_LOSS = 0.01
"""A graph that lost more average precision than this is not chosen unless it is asked for."""

METADATA = "geo_retina"
"""Section of the graph's metadata that is ours."""
WEIGHTS_HASH = "weights_hash"
"""Entry of that section: SHA-256 of the `.bin`. Graphs of early versions lack it."""

_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class ApLoss:
    """Average precision of a graph and of the network it was made from, on the same images."""

    before: float
    """AP of the network on torch."""
    after: float
    """AP of the graph."""
    where: str
    """Images and rule, such as `val, 31 rasters, IoU 0.4`."""

    @property
    def is_small(self) -> bool:
        """Whether the graph may stand for the network."""
        return self.before - self.after <= LARGEST_AP_LOSS


@dataclass(frozen=True, slots=True)
class Artifact:
    """One exported graph."""

    path: Path
    """The `.xml` file."""
    precision: Precision
    network_hash: str
    """See `network_hash`."""
    loss: ApLoss | None = None
    """What exporting cost; None where nobody measured it."""

    @property
    def is_faithful(self) -> bool:
        """Whether it gives what the checkpoint gives: to within rounding, or as was measured."""
        return self.precision == "fp32" if self.loss is None else self.loss.is_small

    def metadata(self) -> dict[str, str]:
        """What is stored inside the graph, as texts."""
        loss = {} if self.loss is None else {"ap_loss": json.dumps(asdict(self.loss))}
        return {"precision": self.precision, "network_hash": self.network_hash, **loss}

    @classmethod
    def from_metadata(cls, path: Path, values: dict[str, str]) -> Self:
        """The artifact that `metadata` described.

        Raises:
            ModelError: The texts are not those of an artifact.
        """
        try:
            loss = ApLoss(**json.loads(values["ap_loss"])) if "ap_loss" in values else None
            return cls(path, _PRECISIONS[values["precision"]], values["network_hash"], loss)
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise ModelError(f"{path} was not exported by geo_retina; export it again") from error


def artifact_path(checkpoint: Path, precision: Precision, *, folder: Path | None = None) -> Path:
    """Where the graph of a checkpoint lies: beside it, or in `folder`."""
    return (folder or checkpoint.parent) / f"{checkpoint.stem}.openvino-{precision}.xml"


def matching_artifacts(info: CheckpointInfo) -> list[Artifact]:
    """Graphs beside a checkpoint that were made from its network, the fastest first.

    Others are passed over with a warning.
    """
    paths = [artifact_path(info.path, precision) for precision in _PRECISIONS.values()]
    found: list[Artifact] = []
    for path in [path for path in paths if path.is_file()]:
        try:
            artifact = read_artifact(path)
        except ModelError as error:
            _log.warning("%s; it is not used", error)
            continue
        if artifact.network_hash == network_hash(info):
            found.append(artifact)
        else:
            _log.warning(
                "%s was made from other weights than those of %s and is not used; run "
                "`geo-retina export` again",
                path,
                info.path,
            )
    return found


def read_artifact(path: Path) -> Artifact:
    """Read what a graph says about itself.

    Raises:
        ModelError: It cannot be read, is cut short, was not made by geo_retina, or its weights are
            not those that it was exported with.
    """
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ModelError(f"the weights {weights} are missing; export it again")
    try:
        values = dict(_metadata(path, *_state(path)))
        known = values.get(WEIGHTS_HASH)
        is_own = known is None or known == _hash_of(weights, *_state(weights))
    except (OSError, ET.ParseError) as error:
        raise ModelError(f"cannot read {path}: {error}; export it again") from error
    if not is_own:
        raise ModelError(
            f"{weights} does not hold the weights that {path.name} was exported with: it is "
            "damaged, or of another export; export it again"
        )
    return Artifact.from_metadata(path, values)


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size


def weights_hash(path: Path) -> str:
    """SHA-256 of a `.bin`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=8)
def _hash_of(path: Path, _changed_ns: int, _size: int) -> str:
    """`weights_hash` of a file that is in this state: a run asks more than once."""
    return weights_hash(path)


@lru_cache(maxsize=8)  # the graph of a large network takes a while
def _metadata(path: Path, _changed_ns: int, _size: int) -> tuple[tuple[str, str], ...]:
    """Names and values of our section, of a file that is in this state."""
    tree = ET.parse(path)  # noqa: S314  expat itself bounds what entities may grow to
    entries = tree.iterfind(f"./rt_info/{METADATA}/*")
    return tuple((entry.tag, entry.get("value", "")) for entry in entries)


def network_hash(info: CheckpointInfo) -> str:
    """First 16 hexadecimal digits of a SHA-256 of all that decides the network's outputs.

    That is the weights, the network's settings and how pixels are scaled; not the rest of the card,
    so that a new threshold or metric does not outdate a graph.

    Raises:
        ModelError: The file cannot be read.
    """
    card = info.card
    scaling = (card.dtype, card.value_range, card.mean, card.std)
    digest = hashlib.sha256(json.dumps(scaling).encode())
    digest.update(info.network.model_dump_json().encode())
    try:
        with info.path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            tensors = json.loads(file.read(length))
            tensors.pop("__metadata__", None)
            digest.update(json.dumps(tensors, sort_keys=True).encode())
            while block := file.read(1 << 20):
                digest.update(block)
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"cannot read the checkpoint {info.path}: {error}") from error
    return digest.hexdigest()[:16]
