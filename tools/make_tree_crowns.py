"""Make the bundled model `tree-crowns` from its data: two rounds of training.

    python tools/make_tree_crowns.py --neon-trees NEON_TREES --out runs/tree-crowns-all

Round 1 learns from hand labels and DeepForest's predictions on plots without labels. Round 2 goes
on from round 1, which together with DeepForest labels those plots anew. With `--all` round 2 also
learns from the val plots: so the weights that ship were made; without, their twin, whose numbers on
val are quoted. Each command is printed before it runs, and what is done is not done again. About
two hours on one CPU core.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TOOLS = Path(__file__).parent
CONFIGS = TOOLS.parent / "configs"


def main() -> None:
    """Parse the command line and run what is not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--neon-trees", type=Path, required=True, help="folder of the benchmark")
    parser.add_argument("--out", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--all", action="store_true", help="learn from the val plots too")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()

    data = asked.out / "data"
    if not (data / "neon_trees").exists():
        tool("prepare_tree_crowns.py", "--neon-trees", asked.neon_trees, "--out", data)
    first = train(asked, 1, "tree-crowns.toml", [])
    splits = ['train.0.split=["train", "val"]'] if asked.all else []
    print(f"made {again(asked, 2, first, splits)}")


def again(asked: argparse.Namespace, number: int, before: Path, settings: list[str]) -> Path:
    """Label the plots without labels by the round before, and train on from it."""
    labels = asked.out / "data" / f"pseudo-{number}.csv"
    if not labels.is_file():
        plots = asked.neon_trees / "unlabelled"
        second = asked.neon_trees / "deepforest/predictions_unlabelled.csv"
        options = ("--model", before, "--images", plots, "--second", second, "--out", labels)
        tool("pseudo_labels.py", *options)
    settings = [f"start_from={before}", *settings]
    settings += [f"train.{source}.labels={labels.name}" for source in (3, 4)]
    return train(asked, number, "tree-crowns-student.toml", settings)


def train(asked: argparse.Namespace, number: int, recipe: str, settings: list[str]) -> Path:
    """Train one round, or go on with it; the checkpoint."""
    run: Path = asked.out / f"round-{number}"
    checkpoint = run / "tree-crowns.safetensors"
    if not checkpoint.is_file():
        program = Path(sys.executable).with_name("geo-retina")
        command: list[object] = [program, "train", CONFIGS / recipe, *settings]
        command += [f"schedule.seed={asked.seed + number}"]
        command += ["--data", asked.out / "data", "--out", run]
        execute([*command, *(["--resume"] if (run / "state.ckpt").is_file() else [])])
    return checkpoint


def tool(name: str, *options: object) -> None:
    """Run a tool that lies beside this one."""
    execute([sys.executable, TOOLS / name, *options])


def execute(command: Sequence[object]) -> None:
    """Print a command and run it; what fails ends this tool too."""
    words = [str(word) for word in command]
    print("$", shlex.join(words), flush=True)
    ended = subprocess.run(words, check=False)
    if ended.returncode:
        sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
