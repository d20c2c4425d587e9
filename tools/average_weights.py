"""Average the weights of models that were trained on from one start.

    python tools/average_weights.py runs/start.safetensors runs/a/tree-crowns.safetensors \
        runs/b/tree-crowns.safetensors --out runs/averaged/tree-crowns.safetensors

The mean of such weights finds about what the models find together ("model soup", arXiv 2203.05482;
with the start among them arXiv 2109.01903), at the cost of one. Card and recipe are those of the
last one named.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from geo_retina.model.checkpoint import load_network, read_info, save_checkpoint
from geo_retina.model.retinanet import RetinaNet


def main() -> None:
    """Parse the command line, average, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    asked = parser.parse_args()
    write_average(asked.checkpoints, asked.out)
    print(f"{asked.out}: the mean of {len(asked.checkpoints)} checkpoints")


def write_average(checkpoints: Sequence[Path], path: Path) -> None:
    """Write the mean of checkpoints of one network; its folder is made.

    Raises:
        SystemExit: The networks' settings differ.
    """
    found = [read_info(checkpoint) for checkpoint in checkpoints]
    if any(info.network != found[0].network for info in found):
        raise SystemExit(f"{', '.join(map(str, checkpoints))}: their networks differ")
    network = averaged([load_network(info) for info in found])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, network, found[-1].card, recipe=found[-1].recipe)


def averaged(networks: Sequence[RetinaNet]) -> RetinaNet:
    """The last network with the mean of all weights and batch-norm statistics."""
    states = [network.state_dict() for network in networks]
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(value.dtype)
        for name, value in states[-1].items()
        if value.is_floating_point()
    }
    networks[-1].load_state_dict(mean, strict=False)  # what is not in it counts batches
    return networks[-1]


if __name__ == "__main__":
    main()
