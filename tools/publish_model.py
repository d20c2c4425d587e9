"""Turn a trained checkpoint into one that ships: measured, its card filled in, in half precision.

    python tools/publish_model.py runs/tree-crowns/tree-crowns.safetensors \
        --recipe configs/tree-crowns.toml --labels LABELS --images IMAGES --split val \
        --what "neon_trees val (31 plots, 1,365 crowns)" --out geo_retina/model/weights

What is measured goes through the whole product (`geo-retina detect` from score 0.05 up, other
options at their defaults), at IoU 0.4: the published file itself. Where that has learned from all
labelled images, `--measured` gives what tools/cross_validate.py found in its place.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geo_retina.card import Metric, ModelCard
from geo_retina.config import load_settings
from geo_retina.defaults import MATCH_IOU
from geo_retina.detection.options import DetectOptions
from geo_retina.evaluation.evaluate import evaluate_detections
from geo_retina.evaluation.runs import LOWEST_SCORE, Detecting, model_pairs
from geo_retina.evaluation.summary import Evaluation
from geo_retina.evaluation.tables import evaluation_markdown
from geo_retina.labels.choice import LabelChoice
from geo_retina.labels.formats import LabelSource
from geo_retina.labels.vector import VectorOptions
from geo_retina.model.checkpoint import load_network, read_info, save_checkpoint
from geo_retina.training.settings import TrainingSettings


def main() -> None:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--recipe", type=Path, required=True, help="TOML with the card's text")
    parser.add_argument("--measured", type=Path, help="numbers to quote; nothing is measured then")
    parser.add_argument("--labels")
    parser.add_argument("--images")
    parser.add_argument("--split", default="val", help="of the labels, without --only")
    parser.add_argument("--only", type=Path, help="text file that names the images")
    parser.add_argument("--format", help="of the labels, where they do not tell: points")
    parser.add_argument("--bands", help="such as 1,2,3,4")
    parser.add_argument("--distance-m", type=float, help="match centres, for points")
    parser.add_argument("--what", required=True, help="the images in words, for the card")
    parser.add_argument("--out", type=Path, required=True, help="folder of the published file")
    arguments = parser.parse_args()
    if arguments.measured is None and not (arguments.labels and arguments.images):
        parser.error("--labels and --images, or --measured, are needed")

    card = load_settings(arguments.recipe, TrainingSettings).card
    network = load_network(read_info(arguments.checkpoint))
    path = arguments.out / f"{card.name}.safetensors"
    recipe = read_info(arguments.checkpoint).recipe
    save_checkpoint(path, network, card, recipe=recipe, half_precision=True)

    if arguments.measured is None:
        evaluation = measure(path, arguments)
        print(evaluation_markdown(evaluation))
        found, how = evaluation.to_dict(), ""
    else:
        found = json.loads(arguments.measured.read_text(encoding="utf-8"))
        how = "; cross-validated, of the same recipe"
    note = f"{found['rule']}, stitched rasters, score >= {LOWEST_SCORE}{how}"
    metrics = metrics_of(found, arguments.what, note)
    measured = card.model_copy(update={"metrics": metrics})
    save_checkpoint(
        path,
        network,
        ModelCard.model_validate(measured.model_dump()),
        recipe=recipe,
        half_precision=True,
    )
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


def measure(path: Path, arguments: argparse.Namespace) -> Evaluation:
    """Evaluate the published file on the labels that the command line names."""
    source = LabelSource(
        path=arguments.labels,
        images=arguments.images,
        class_names=read_info(path).card.class_names,
        vector=VectorOptions(point_size_m=arguments.distance_m),
    )
    labels = LabelChoice(
        source=source,
        label_format=arguments.format,
        only=arguments.only,
        split=arguments.split if arguments.only is None else None,
    )
    bands = tuple(map(int, arguments.bands.split(","))) if arguments.bands else None
    how = Detecting(options=DetectOptions(score=LOWEST_SCORE, bands=bands))
    pairs = model_pairs(labels, path, how)
    return evaluate_detections(pairs, iou=MATCH_IOU, distance_m=arguments.distance_m)


def metrics_of(found: Mapping[str, Any], what: str, note: str) -> tuple[Metric, ...]:
    """AP and best F1, overall and for each site.

    Args:
        found: Of `Evaluation.to_dict`.
        what: The images in words.
        note: How it was measured.
    """
    places = [(what, found["quality"])]
    places += [(f"{what}, site {site['name']}", site) for site in found["sites"]]
    return tuple(
        metric
        for where, quality in places
        for metric in (
            Metric(name="AP", value=round(quality["ap"], 4), split=where, note=note),
            Metric(
                name="best F1",
                value=round(quality["best"]["f1"], 4),
                split=where,
                note=f"{note}, at score {quality['best']['score']:.3f}",
            ),
        )
    )


if __name__ == "__main__":
    main()
