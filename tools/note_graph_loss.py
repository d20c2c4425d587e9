"""Write into an int8 graph what it cost in a cross-validation of its recipe.

    python tools/note_graph_loss.py tree-crowns --before runs/float.json --after runs/int8.json \
        --where "neon_trees val, cross-validated"

`geo-retina export --labels` measures the loss of the very graph, on labels that the model must not
have learned from. Where it learned from all there are, the graphs of a cross-validation stand in:
made alike, from weights of the same recipe, measured on what these had not seen. Both files are
what `tools/cross_validate.py --json` writes, without graphs beside the checkpoints and with them.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from geo_retina.model.artifacts import ApLoss, matching_artifacts
from geo_retina.model.checkpoint import read_info
from geo_retina.model.export import note_in_openvino


def main() -> None:
    """Parse the command line, renew the metadata of the graph."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="bundled model or checkpoint")
    parser.add_argument("--before", type=Path, required=True, help="evaluation in float32")
    parser.add_argument("--after", type=Path, required=True, help="evaluation in int8")
    parser.add_argument("--where", required=True, help="the images, in words")
    asked = parser.parse_args()
    before, after = (json.loads(path.read_text()) for path in (asked.before, asked.after))
    loss = ApLoss(
        before["quality"]["ap"], after["quality"]["ap"], f"{asked.where}, match by {after['rule']}"
    )
    graphs = [
        item for item in matching_artifacts(read_info(asked.model)) if item.precision == "int8"
    ]
    if not graphs:
        raise SystemExit(f"no int8 graph lies beside {asked.model}; see `geo-retina export`")
    note_in_openvino(replace(graphs[0], loss=loss))
    print(f"{graphs[0].path}: AP {loss.before:.4f} before, {loss.after:.4f} after ({loss.where})")


if __name__ == "__main__":
    main()
