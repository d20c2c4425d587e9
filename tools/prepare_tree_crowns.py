"""Put the data that `configs/tree-crowns.toml` trains on into one folder.

    python tools/prepare_tree_crowns.py --neon-trees NEON_TREES --out DATA_FOLDER

NEON_TREES is the folder with the early NeonTreeEvaluation benchmark (annotations.csv, images/,
unlabelled/, deepforest/, osbs/); it is linked, not copied. The labelled Yellowstone crops come
out of the wheel of DeepForest 2.1.0 (MIT), which uv or pip fetches from PyPI.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from find_uv import find_uv

_PACKAGE = "deepforest==2.1.0"
_NAMES = (
    "2019_YELL_2_528000_4978000_image_crop2",
    "2019_YELL_2_541000_4977000_image_crop",
)


def main() -> None:
    """Parse the command line and prepare the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--neon-trees", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    annotations = arguments.neon_trees / "annotations.csv"
    if not annotations.is_file():
        parser.error(f"{annotations} is missing: --neon-trees must hold the benchmark's files")
    arguments.out.mkdir(parents=True, exist_ok=True)
    fetch_yellowstone(arguments.out / "yellowstone")
    link = arguments.out / "neon_trees"
    if not link.exists():
        link.symlink_to(arguments.neon_trees.resolve(), target_is_directory=True)
    print(f"ready: {arguments.out}")


def fetch_yellowstone(folder: Path) -> None:
    """Unpack the labelled crops of the DeepForest wheel into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    uv = find_uv()
    installer = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
    with tempfile.TemporaryDirectory() as scratch:
        command = [*installer, "install", "--quiet", "--no-deps", "--target", scratch, _PACKAGE]
        subprocess.run(command, check=True)
        for name in _NAMES:
            for ending in (".png", ".xml"):
                shutil.copy(Path(scratch) / f"deepforest/data/{name}{ending}", folder)


if __name__ == "__main__":
    main()
