"""Cross-validate a recipe on a split that its last training learns from too.

    python tools/cross_validate.py configs/tree-crowns-student.toml \
        start_from=runs/twin/round-2/tree-crowns.safetensors --data DATA_FOLDER --out runs/folds

The rasters of `--split` are dealt out to `--folds` parts, site by site. One training a part learns
from all that the recipe names and from the other parts; then it detects on its own part through the
whole product. What all of them found together is compared with the labels: no raster was seen by
the weights that it is measured with. A part whose checkpoint is there is not trained again; where
`geo-retina export` made an int8 graph beside it, that detects.

`{fold}` in a setting, or in `--average-with`, stands for the part's number, from 0: a round of
training that goes on from the cross-validation of the round before starts each part from its own.
With several `--seeds` each part is trained once a seed, and the mean of these weights, and of those
of `--average-with`, detects on it.
"""

import argparse
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import average_weights

from geo_retina import defaults
from geo_retina.config import load_settings
from geo_retina.evaluation.evaluate import evaluate_detections
from geo_retina.evaluation.runs import Detecting, detect_pairs
from geo_retina.evaluation.tables import evaluation_markdown
from geo_retina.labels.labels import LabelledRaster
from geo_retina.training.fit import fit
from geo_retina.training.settings import TrainingSettings

if TYPE_CHECKING:
    from geo_retina.evaluation.pairs import Pair


def main() -> None:
    """Parse the command line, train each part, measure all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="changes of the recipe")
    parser.add_argument("--data", type=Path, required=True, help="folder of the recipe's paths")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trainings")
    parser.add_argument("--source", type=int, default=0, help="[[train]] table with the labels")
    parser.add_argument("--split", default="val", help="of these labels, dealt out to the parts")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--iou", type=float, default=defaults.MATCH_IOU)
    parser.add_argument("--average-with", help="checkpoint to average each part's with")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the trainings; else the recipe's")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    recipes = [recipe_of(asked, number) for number in range(asked.folds)]
    card = recipes[0].card
    source = recipes[0].train[asked.source].model_copy(update={"split": asked.split, "only": None})
    parts = dealt_out(source.read(asked.data, card.class_names), asked.folds)
    asked.out.mkdir(parents=True, exist_ok=True)
    pairs: list[Pair] = []
    for number, (part, recipe) in enumerate(zip(parts, recipes, strict=True)):
        others = [item for other in parts if other is not part for item in other]
        listing = asked.out.absolute() / f"learned-by-{number}.txt"
        listing.write_text("".join(f"{Path(item.raster).name}\n" for item in others))
        learned = source.model_copy(update={"only": str(listing)})
        settings = recipe.model_copy(update={"train": (*recipe.train, learned)})
        checkpoint = trained_for(settings, asked, number)
        pairs += detect_pairs(part, checkpoint, Detecting(device="cpu"))
    evaluation = evaluate_detections(pairs, iou=asked.iou, score=card.score)
    print(evaluation_markdown(evaluation), end="")
    if asked.json is not None:
        asked.json.write_text(json.dumps(evaluation.to_dict(), indent=2) + "\n", encoding="utf-8")


def recipe_of(asked: argparse.Namespace, number: int) -> TrainingSettings:
    """The recipe with which a part is trained, but for the labels of the other parts."""
    settings = [of_fold(setting, number) for setting in asked.settings]
    return load_settings(asked.recipe, TrainingSettings, overrides=settings)


def of_fold(text: str, number: int) -> str:
    """A text with a part's number in it."""
    return text.replace("{fold}", str(number))


def dealt_out(labelled: Sequence[LabelledRaster], parts: int) -> list[list[LabelledRaster]]:
    """The rasters in `parts` lists of about equal length, each site spread over all of them."""
    ordered = sorted(labelled, key=lambda item: (item.site, Path(item.raster).name))
    return [ordered[first::parts] for first in range(parts)]


def trained_for(settings: TrainingSettings, asked: argparse.Namespace, number: int) -> Path:
    """The checkpoint that detects on a part: of one training, or the mean of several."""
    fold = asked.out / f"fold-{number}"
    if asked.seeds is None:
        members = [trained(settings, asked.data, fold)]
    else:
        members = [
            trained(with_seed(settings, seed), asked.data, fold / f"seed-{seed}")
            for seed in asked.seeds
        ]
    if asked.average_with is not None:
        members.insert(0, Path(of_fold(asked.average_with, number)))
    return members[0] if len(members) == 1 else averaged(members, fold)


def with_seed(settings: TrainingSettings, seed: int) -> TrainingSettings:
    """The recipe with another seed."""
    schedule = settings.schedule.model_copy(update={"seed": seed})
    return settings.model_copy(update={"schedule": schedule})


def trained(settings: TrainingSettings, data: Path, run: Path) -> Path:
    """Train, or go on, unless it was done before; the checkpoint."""
    checkpoint = run / f"{settings.card.name}.safetensors"
    if not checkpoint.is_file():
        fit(settings, data_folder=data, run_folder=run, resume=(run / "state.ckpt").is_file())
    return checkpoint


def averaged(members: Sequence[Path], fold: Path) -> Path:
    """The mean of checkpoints, in a folder of the part unless it is there."""
    path = fold / "averaged" / members[-1].name
    if not path.is_file():
        average_weights.write_average(list(members), path)
    return path


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    main()
