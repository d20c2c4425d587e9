"""Make the bundled model `tree-crowns` from its data: three rounds of training.

    python tools/make_tree_crowns.py --neon-trees NEON_TREES --out runs/tree-crowns-all --all

Round 1 learns from hand labels and DeepForest's predictions on plots without labels. Rounds 2 and 3
go on from the round before, which together with DeepForest labels those plots anew; the weights
after rounds 2 and 3 are averaged. With `--all` rounds 2 and 3 also learn from the val plots: so the
weights that ship were made. Without, round 2 does not, and round 3 is cross-validated on them: so
the numbers that are quoted were made. Each command is printed before it runs, and what is done is
not done again. About two and a half hours on one CPU core.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TOOLS = Path(__file__).parent
CONFIGS = TOOLS.parent / "configs"
STUDENT = "tree-crowns-student.toml"
ROUND_3 = (
    "schedule.steps=600",
    "schedule.learning_rate=5e-4",
    "schedule.backbone_learning_rate=1.7e-4",
    "augment.symmetries=mirror",  # north stays up: at noon shadows fall there
)


def main() -> None:
    """Parse the command line and run what is not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--neon-trees", type=Path, required=True, help="folder of the benchmark")
    parser.add_argument("--out", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--all", action="store_true", help="learn from all val plots")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()

    data = asked.out / "data"
    if not (data / "neon_trees").exists():
        tool("prepare_tree_crowns.py", "--neon-trees", asked.neon_trees, "--out", data)
    first = train(asked, 1, "tree-crowns.toml", [])
    if asked.all:
        val = 'train.0.split=["train", "val"]'
        second = train(asked, 2, STUDENT, [*start(asked, 2, first), val])
        third = train(asked, 3, STUDENT, [*start(asked, 3, second), *ROUND_3, val])
        averaged = asked.out / "averaged" / third.name
        tool("average_weights.py", second, third, "--out", averaged)
        print(f"made {averaged}")
    else:
        second = train(asked, 2, STUDENT, start(asked, 2, first))
        settings = [*start(asked, 3, second), *ROUND_3, f"schedule.seed={asked.seed + 3}"]
        folders = ("--data", data, "--out", asked.out / "folds")
        averaging = ("--average-with", second, "--json", asked.out / "cross-validated.json")
        tool("cross_validate.py", CONFIGS / STUDENT, *settings, *folders, *averaging)


def start(asked: argparse.Namespace, number: int, before: Path) -> list[str]:
    """Label the plots without labels by the round before; the settings to go on from there."""
    labels = asked.out / "data" / f"pseudo-{number}.csv"
    if not labels.is_file():
        plots = asked.neon_trees / "unlabelled"
        second = asked.neon_trees / "deepforest/predictions_unlabelled.csv"
        options = ("--model", before, "--images", plots, "--second", second, "--out", labels)
        tool("pseudo_labels.py", *options)
    sources = [f"train.{source}.labels={labels.name}" for source in (3, 4)]
    return [f"start_from={before}", *sources]


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
