r"""Draw what a model finds and misses on some rasters, side by side: the pictures of real-cases.md.

    python tools/figures/mistakes.py --model runs/trees-naip/trees-naip.safetensors \
        --labels naip_trees/points --images naip_trees/images --format points --distance-m 6 \
        --bands 1,2,3,4 --names claremont_2020_13,riverside_2020_0 --out docs/figures/naip_trees.jpg

Found labels are blue, missed ones magenta, false alarms orange, at the model's own score.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from geo_retina import defaults
from geo_retina.detection.options import DetectOptions
from geo_retina.evaluation.cut import Cut
from geo_retina.evaluation.evaluate import match_rule
from geo_retina.evaluation.maps import draw_map, mistake_maps
from geo_retina.evaluation.match import match_pairs
from geo_retina.evaluation.rules import ready_pairs
from geo_retina.evaluation.runs import LOWEST_SCORE, Detecting, model_pairs
from geo_retina.labels.choice import LabelChoice
from geo_retina.labels.formats import LabelSource
from geo_retina.labels.vector import VectorOptions
from geo_retina.model.checkpoint import read_info

_GAP_PX = 6


def main() -> None:
    """Parse the command line, detect, match, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--format")
    parser.add_argument("--iou", type=float, default=defaults.MATCH_IOU)
    parser.add_argument("--distance-m", type=float)
    parser.add_argument("--bands", help="such as 1,2,3,4")
    parser.add_argument("--names", required=True, help="rasters to show, without ending: a,b")
    parser.add_argument("--side", type=int, default=420, help="of each picture, px")
    parser.add_argument("--out", type=Path, required=True, help=".jpg or .png")
    arguments = parser.parse_args()

    source = LabelSource(
        path=arguments.labels,
        images=arguments.images,
        vector=VectorOptions(point_size_m=arguments.distance_m),
    )
    bands = tuple(map(int, arguments.bands.split(","))) if arguments.bands else None
    how = Detecting(options=DetectOptions(score=LOWEST_SCORE, bands=bands))
    names = arguments.names.split(",")
    with TemporaryDirectory() as folder:
        listed = Path(folder) / "names.txt"
        listed.write_text("\n".join(names))
        labels = LabelChoice(source=source, label_format=arguments.format, only=listed)
        pairs = model_pairs(labels, arguments.model, how)
    rule = match_rule(iou=arguments.iou, distance_m=arguments.distance_m)
    pairs, _ = ready_pairs(pairs, rule)
    matches = match_pairs(
        pairs, [rule.candidates(pair) for pair in pairs], threshold=rule.threshold
    )
    cut = Cut(read_info(arguments.model).card.score)
    maps = mistake_maps(pairs, matches, cut=cut, most=len(pairs))
    maps.sort(key=lambda item: names.index(Path(item.pair.name).stem))
    pictures = [draw_map(item, most_px=arguments.side) for item in maps]
    for item in maps:
        print(f"{Path(item.pair.name).name}: {item.caption}")
    side_by_side(pictures).save(arguments.out, quality=80, optimize=True)


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """One row of pictures on white."""
    width = sum(item.width for item in pictures) + _GAP_PX * (len(pictures) - 1)
    row = Image.new("RGB", (width, max(item.height for item in pictures)), (255, 255, 255))
    left = 0
    for item in pictures:
        row.paste(item, (left, 0))
        left += item.width + _GAP_PX
    return row


if __name__ == "__main__":
    main()
