import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geo_retina.errors import ConfigError, OutputError
from geo_retina.training.run_folder import STATE_NAME, find_state, start_run
from geo_retina.training.surroundings import STARTS_NAME

SOURCE = {"kind": "deepforest-csv", "labels": "labels.csv", "images": "images"}
CLASSES = {"oak": "tree", "car": ""}


@pytest.mark.parametrize(
    "file", ["recipe.json", "split.geojson", "metrics.csv", "best.safetensors", "tiny.safetensors"]
)
def test_a_new_run_takes_the_place_of_nothing(
    recipe: Callable[..., Any], tmp_path: Path, file: str
) -> None:
    (tmp_path / file).touch()
    with pytest.raises(ConfigError, match=f"holds {re.escape(file)}.*choose another --out"):
        find_state(tmp_path, recipe(), resume=False)


def test_a_broken_run_is_begun_again_and_a_finished_one_keeps_its_model(
    recipe: Callable[..., Any], tmp_path: Path
) -> None:
    start_run(tmp_path, recipe())
    for file in (STARTS_NAME, "best.safetensors", "metrics.csv"):
        (tmp_path / file).touch()
    assert find_state(tmp_path, recipe(), resume=False) is None
    for name in ("tiny", "named-otherwise"):
        model = tmp_path / f"{name}.safetensors"
        model.touch()
        with pytest.raises(ConfigError, match=rf"holds {name}\.safetensors"):
            find_state(tmp_path, recipe(), resume=False)
        model.unlink()


def test_the_weights_to_start_from_are_not_overwritten(
    recipe: Callable[..., Any], tmp_path: Path
) -> None:
    for file in (STARTS_NAME, "best.safetensors"):
        (tmp_path / file).touch()
    settings = recipe(start_from=str(tmp_path / "best.safetensors"))
    with pytest.raises(OutputError, match=r"best\.safetensors would be overwritten"):
        find_state(tmp_path, settings, resume=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule__steps": 7}, r"another recipe: schedule\.steps was 6, is 7; resume it"),
        ({"train": [SOURCE | {"weight": 2, "classes": CLASSES}]}, r"train\.0\.weight was 1\.0, is"),
        (
            {"train": [SOURCE | {"classes": dict(reversed(CLASSES.items()))}]},
            r"the order of train\.0\.classes was oak, car, is car, oak;",
        ),
        ({"train": [SOURCE | {"classes": CLASSES}, SOURCE]}, r"train\.1 was null, is \{"),
    ],
    ids=["a value", "a source's value", "the order of its classes", "one more source"],
)
def test_a_run_is_resumed_with_its_own_recipe(
    recipe: Callable[..., Any], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    own = {"train": [SOURCE | {"classes": CLASSES}]}
    start_run(tmp_path, recipe(**own))
    (tmp_path / STATE_NAME).touch()
    assert find_state(tmp_path, recipe(**own), resume=True) == tmp_path / STATE_NAME
    with pytest.raises(ConfigError, match=said):
        find_state(tmp_path, recipe(**(own | changes)), resume=True)
