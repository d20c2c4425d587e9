from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geo_retina.errors import ConfigError
from geo_retina.training.run_folder import STATE_NAME, find_state, start_run

SOURCE = {"kind": "deepforest-csv", "labels": "labels.csv", "images": "images"}
CLASSES = {"oak": "tree", "car": ""}


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
