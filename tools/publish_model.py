"""Turn a trained checkpoint into one that ships: measured, its card filled in, in half precision.

    python tools/publish_model.py runs/tree-crowns/tree-crowns.safetensors \
        --recipe configs/tree-crowns.toml --labels LABELS --images IMAGES --split val \
        --what "neon_trees val (31 plots, 1,365 crowns)" --out geo_retina/model/weights

What is measured goes through the whole product (`geo-retina detect` from score 0.05 up, other
options at their defaults), at IoU 0.4: the published file itself or, where that has learned from
the images to measure on too, with `--twin` the checkpoint of the same recipe that has not.
"""

import argparse
from pathlib import Path

from geo_retina.card import Metric, ModelCard
from geo_retina.config import load_settings
from geo_retina.detection.options import DetectOptions
from geo_retina.evaluation.evaluate import evaluate_detections
from geo_retina.evaluation.runs import LOWEST_SCORE, LabelChoice, model_pairs
from geo_retina.evaluation.summary import Evaluation
from geo_retina.evaluation.tables import evaluation_markdown
from geo_retina.labels.formats import LabelSource, VectorOptions
from geo_retina.model.checkpoint import load_network, read_info, save_checkpoint
from geo_retina.training.settings import TrainingSettings

IOU = 0.4


def main() -> None:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--recipe", type=Path, required=True, help="TOML with the card's text")
    parser.add_argument("--labels", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--split", default="val", help="of the labels, without --only")
    parser.add_argument("--only", type=Path, help="text file that names the images")
    parser.add_argument("--format", help="of the labels, where they do not tell: points")
    parser.add_argument("--bands", help="such as 1,2,3,4")
    parser.add_argument("--distance-m", type=float, help="match centres, for points")
    parser.add_argument("--what", required=True, help="the images in words, for the card")
    parser.add_argument("--twin", type=Path, help="checkpoint to measure instead; has its own int8")
    parser.add_argument("--out", type=Path, required=True, help="folder of the published file")
    arguments = parser.parse_args()

    card = load_settings(arguments.recipe, TrainingSettings).card
    network = load_network(read_info(arguments.checkpoint))
    path = arguments.out / f"{card.name}.safetensors"
    recipe = read_info(arguments.checkpoint).recipe
    save_checkpoint(path, network, card, recipe=recipe, half_precision=True)

    source = LabelSource(
        path=arguments.labels,
        images=arguments.images,
        class_names=card.class_names,
        vector=VectorOptions(point_size_m=arguments.distance_m),
    )
    labels = LabelChoice(
        source=source,
        label_format=arguments.format,
        only=arguments.only,
        split=arguments.split if arguments.only is None else None,
    )
    bands = tuple(map(int, arguments.bands.split(","))) if arguments.bands else None
    evaluation = evaluate_detections(
        model_pairs(
            labels,
            arguments.twin or path,
            options=DetectOptions(score=LOWEST_SCORE, bands=bands),
        ),
        iou=IOU,
        distance_m=arguments.distance_m,
    )
    print(evaluation_markdown(evaluation))

    note = f"{evaluation.rule}, stitched rasters, score >= {LOWEST_SCORE}"
    if arguments.twin is not None:
        note += "; of the same recipe without these images"
    metrics = metrics_of(evaluation, arguments.what, note)
    measured = card.model_copy(update={"metrics": metrics})
    save_checkpoint(
        path,
        network,
        ModelCard.model_validate(measured.model_dump()),
        recipe=recipe,
        half_precision=True,
    )
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


def metrics_of(evaluation: Evaluation, what: str, note: str) -> tuple[Metric, ...]:
    """AP and best F1, overall and for each site."""
    found = []
    for quality in (evaluation.quality, *evaluation.sites):
        where = what if quality is evaluation.quality else f"{what}, site {quality.name}"
        found += [
            Metric(name="AP", value=round(quality.ap, 4), split=where, note=note),
            Metric(
                name="best F1",
                value=round(quality.best.f1, 4),
                split=where,
                note=f"{note}, at score {quality.best.score:.3f}",
            ),
        ]
    return tuple(found)


if __name__ == "__main__":
    main()
