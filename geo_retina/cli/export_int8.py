"""What `geo-retina export` does for an int8 graph: calibrate, round, measure the loss."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from geo_retina.evaluation.export_loss import LossMeasure
    from geo_retina.imagery.read_options import ReadOptions
    from geo_retina.labels.choice import LabelChoice
    from geo_retina.model.artifacts import Artifact
    from geo_retina.model.checkpoint import CheckpointInfo


@dataclass(frozen=True, slots=True, eq=False)
class Int8Work:
    """What an int8 graph takes besides the network."""

    read_chips: "Callable[[], list[NDArray[Any]]]"
    """Reads the chips to calibrate with."""
    measure: "LossMeasure | None"
    """Measures what was lost; None = it is not measured."""


def by_recipe(info: "CheckpointInfo", data: Path, *, most_chips: int) -> Int8Work:
    """Calibrate with train of the checkpoint's recipe, measure on val.

    Loads the training room, which takes seconds.

    Raises:
        UsageError: One of its kinds, where there is no recipe, or its data are not there.
    """
    from geo_retina.detection.calibration import chips_of_rasters
    from geo_retina.training.recipe_export import recipe_data

    found = recipe_data(info, data)
    read = partial(chips_of_rasters, found.rasters, info.card, most=most_chips)
    return Int8Work(read, found.measure)


def as_stated(
    info: "CheckpointInfo",
    calibrate: "Sequence[Path]",
    labelled: "LabelChoice | None",
    reading: "ReadOptions",
    *,
    most_chips: int,
    distance_m: float | None,
) -> Int8Work:
    """Calibrate with rasters that were named, measure on labels that were.

    Raises:
        UsageError: One of its kinds, where the labels cannot be read or do not fit.
    """
    from geo_retina.defaults import MATCH_IOU
    from geo_retina.detection.calibration import read_calibration_chips
    from geo_retina.evaluation.evaluate import match_rule
    from geo_retina.evaluation.export_loss import measure_on
    from geo_retina.wording import counted

    match_rule(iou=MATCH_IOU, distance_m=distance_m)
    read = partial(read_calibration_chips, calibrate, info.card, most=most_chips, options=reading)
    if labelled is None:
        return Int8Work(read, None)
    source = replace(labelled.source, class_names=info.card.class_names)
    rasters = replace(labelled, source=source).read()
    images = f"{labelled.split or 'all labels'}, {counted(len(rasters), 'raster')}"
    return Int8Work(
        read, measure_on(rasters, info, images=images, distance_m=distance_m, options=reading)
    )


def write(info: "CheckpointInfo", folder: Path, work: Int8Work) -> None:
    """Make the graph, measure it, and tell of both."""
    from geo_retina.model.artifacts import Artifact, artifact_path, network_hash
    from geo_retina.model.export import (
        export_openvino,
        note_in_openvino,
        quantise,
        write_openvino,
    )

    pixels = work.read_chips()
    artifact = Artifact(artifact_path(info.path, "int8", folder=folder), "int8", network_hash(info))
    write_openvino(quantise(export_openvino(info), pixels), artifact)
    tell_written(artifact.path)
    if work.measure is not None:
        artifact = replace(artifact, loss=work.measure.of(artifact))
        note_in_openvino(artifact)
    _tell_loss(artifact)


def tell_written(path: Path) -> None:
    """Print where a graph is, and its size."""
    size = sum(file.stat().st_size for file in {path, path.with_suffix(".bin")} if file.is_file())
    print(f"written  {path.resolve()} ({size / 2**20:.1f} MiB)")


def _tell_loss(artifact: "Artifact") -> None:
    from geo_retina.model.artifacts import LARGEST_AP_LOSS

    loss = artifact.loss
    if loss is None:
        print(
            "loss     not measured: used only with --backend openvino; measure it with --data or "
            "--labels"
        )
        return
    use = "detect takes it" if loss.is_small else "used only with --backend openvino"
    print(
        f"loss     AP {loss.before:.4f} before, {loss.after:.4f} after ({loss.where}); {use} "
        f"(most that may be lost: {LARGEST_AP_LOSS:g})"
    )
