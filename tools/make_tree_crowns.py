"""Make the bundled model `tree-crowns` from its data: five rounds of training.

    python tools/make_tree_crowns.py --neon-trees NEON_TREES --out runs/tree-crowns-all --all

Round 1 learns from hand labels and DeepForest's predictions on plots without labels. Each other
round goes on from the one before, which together with DeepForest labels those plots anew (but for
round 5, which keeps the labels of round 4). From round 3 on, the weights of a round are averaged
with those it started from; round 5 is trained with three seeds, and all are averaged. With `--all`
rounds 2 to 5 also learn from the val plots: so the weights that ship were made. Without, round 2
does not, and the others are cross-validated on them: so the numbers that are quoted were made.
With `--without-deepforest` round 1 learns from hand labels alone, and what labels the plots is the
round before alone. Each command is printed before it runs, and what is done is not done again.
About four and a half hours on one CPU core, six and a half without `--all`.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

TOOLS = Path(__file__).parent
CONFIGS = TOOLS.parent / "configs"
STUDENT = "tree-crowns-student.toml"
PREDICTIONS = "neon_trees/deepforest/predictions_unlabelled.csv"
"""What DeepForest finds on the plots without labels."""
FURTHER = (3, 4, 5)
"""Rounds at a lower rate, whose weights are averaged with those they started from."""
KEEPS_LABELS = 5
"""The round that does not label anew."""
SEEDS = {5: 3}
"""Rounds that are trained with several seeds."""
GENTLY = (
    "schedule.steps=600",
    "schedule.learning_rate=5e-4",
    "schedule.backbone_learning_rate=1.7e-4",
    "augment.symmetries=mirror",  # north stays up: at noon shadows fall there
)
FOLDS = 2


def main() -> None:
    """Parse the command line and run what is not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--neon-trees", type=Path, required=True, help="folder of the benchmark")
    parser.add_argument("--out", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--all", action="store_true", help="learn from all val plots")
    parser.add_argument(
        "--without-deepforest", action="store_true", help="learn nothing from its predictions"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--settings", nargs="*", default=[], metavar="KEY=VALUE", help="for all rounds, to try it"
    )
    asked = parser.parse_args()

    data = asked.out / "data"
    if not (data / "neon_trees").exists():
        tool("prepare_tree_crowns.py", "--neon-trees", asked.neon_trees, "--out", data)
    recipe = hand_labels(asked.out) if asked.without_deepforest else CONFIGS / "tree-crowns.toml"
    first = train(asked, 1, recipe, [f"schedule.seed={asked.seed + 1}"])
    settings = ['train.0.split=["train", "val"]'] if asked.all else []
    second = train(asked, 2, CONFIGS / STUDENT, [*settings, *go_on(asked, 2, first)])
    if not asked.all:
        cross_validate(asked, second)
        return
    latest = second
    for number in FURTHER:
        latest = further(asked, number, latest, settings)
    print(f"made {latest}")


def further(asked: argparse.Namespace, number: int, before: Path, settings: Sequence[str]) -> Path:
    """One of the further rounds, with what is learned from the val plots too."""
    gently = [*settings, *go_on(asked, number, before), *GENTLY]
    after = [
        train(asked, f"{number}{which}", CONFIGS / STUDENT, [*gently, f"schedule.seed={seed}"])
        for seed, which in zip(seeds_of(asked, number), ("", "-b", "-c"), strict=False)
    ]
    averaged = after[0].parent / "averaged" / after[0].name
    if not averaged.is_file():
        tool("average_weights.py", before, *after, "--out", averaged)
    return averaged


def seeds_of(asked: argparse.Namespace, number: int) -> list[int]:
    """Seeds of the trainings of a round."""
    first = asked.seed + number
    return list(range(first, first + SEEDS.get(number, 1)))


def cross_validate(asked: argparse.Namespace, second: Path) -> None:
    """The further rounds without one half of the val plots, and without the other."""
    latest = str(second)  # with {fold} for the number of the half
    for number in FURTHER:
        for fold in range(FOLDS):
            label(asked, number, Path(latest.replace("{fold}", str(fold))), f"-{fold}")
        settings = [*settings_of(asked, number, latest, "-{fold}"), *GENTLY, *asked.settings]
        out = asked.out / f"folds-{number}"
        folders = ("--data", asked.out / "data", "--out", out, "--folds", FOLDS)
        averaging = ("--average-with", latest, "--json", out / "evaluation.json")
        seeds = ("--seeds", *seeds_of(asked, number)) if number in SEEDS else ()
        tool("cross_validate.py", CONFIGS / STUDENT, *settings, *folders, *averaging, *seeds)
        latest = str(out / "fold-{fold}" / "averaged" / second.name)


def go_on(asked: argparse.Namespace, number: int, before: Path) -> list[str]:
    """Label the plots without labels by the round before; the settings to go on from there."""
    label(asked, number, before, "")
    return settings_of(asked, number, str(before), "")


def settings_of(asked: argparse.Namespace, number: int, before: str, which: str) -> list[str]:
    """The settings of a round that goes on from the one before."""
    labels = f"pseudo-{min(number, KEEPS_LABELS - 1)}{which}.csv"
    settings = [f"train.{source}.labels={labels}" for source in (3, 4)]
    return [f"start_from={before}", *settings, f"schedule.seed={seeds_of(asked, number)[0]}"]


def label(asked: argparse.Namespace, number: int, by: Path, which: str) -> None:
    """Label the plots without labels for a round, unless it is done or keeps what there is."""
    labels = asked.out / "data" / f"pseudo-{number}{which}.csv"
    if number != KEEPS_LABELS and not labels.is_file():
        plots = asked.neon_trees / "unlabelled"
        options = ["--model", by, "--images", plots, "--out", labels]
        if not asked.without_deepforest:
            options += ["--second", asked.out / "data" / PREDICTIONS]
        tool("pseudo_labels.py", *options)


def hand_labels(folder: Path) -> Path:
    """Write the recipe of round 1 without DeepForest's predictions; its path."""
    recipe = tomllib.loads((CONFIGS / "tree-crowns.toml").read_text(encoding="utf-8"))
    recipe["train"] = [part for part in recipe["train"] if part.get("labels") != PREDICTIONS]
    path = folder / "tree-crowns-hand-labels.json"
    path.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    return path


def train(asked: argparse.Namespace, number: int | str, recipe: Path, settings: list[str]) -> Path:
    """Train one round, or go on with it; the checkpoint."""
    run: Path = asked.out / f"round-{number}"
    checkpoint = run / "tree-crowns.safetensors"
    if not checkpoint.is_file():
        program = Path(sys.executable).with_name("geo-retina")
        command: list[object] = [program, "train", recipe, *settings]
        command += asked.settings
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
