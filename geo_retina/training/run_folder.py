"""The folder of a training: its recipe, and the state that a broken run goes on from."""

import contextlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from geo_retina.detection.paths import refuse_overwriting
from geo_retina.errors import ConfigError, OutputError
from geo_retina.model.checkpoint import SUFFIX
from geo_retina.training.records import METRICS_NAME
from geo_retina.training.settings import TrainingSettings
from geo_retina.training.split_map import SPLIT_NAME
from geo_retina.training.surroundings import STARTS_NAME
from geo_retina.training.validation import BEST_NAME, LAST_NAME, VALIDATION_NAME
from geo_retina.whole_files import write_whole
from geo_retina.wording import listed

STATE_NAME = "state.ckpt"
"""File in the run folder from which a training goes on."""
RECIPE_NAME = "recipe.json"
"""File in the run folder with all settings, defaults included; `geo-retina train` takes it too."""

_SHOWN = 5


def find_state(folder: Path, settings: TrainingSettings, *, resume: bool) -> Path | None:
    """The state to go on from; None for a new run. Writes nothing.

    Args:
        folder: Where the run writes.
        settings: Its recipe.
        resume: Go on with the run in the folder.

    Raises:
        ConfigError: There is a run in the folder and `resume` is not set, or none and it is, or
            it has another recipe; or the folder holds a model, or files of another origin, that a
            new run would overwrite.
        OutputError: The model to start from would be overwritten.
    """
    state, recipe = folder / STATE_NAME, folder / RECIPE_NAME
    if resume and not state.is_file():
        raise ConfigError(
            f"nothing to resume: {state} is not there (no epoch was finished); leave --resume out"
        )
    if state.is_file() and not resume:
        raise ConfigError(f"{folder} holds a run; go on with --resume or choose another --out")
    if not resume:
        _refuse_taken(folder, settings)
        return None
    _refuse_other_recipe(recipe, settings)
    return state


def start_run(folder: Path, settings: TrainingSettings) -> None:
    """Make the run folder and put the recipe there.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write the run folder {folder}: {error}") from error
    recipe = settings.model_dump_json(indent=2) + "\n"
    write_whole(folder / RECIPE_NAME, recipe, error=OutputError)


def _refuse_taken(folder: Path, settings: TrainingSettings) -> None:
    """Refuse a folder in which a new run would replace anything but what a broken one left."""
    measured, model = [folder / BEST_NAME, folder / LAST_NAME], f"{settings.card.name}{SUFFIX}"
    refuse_overwriting([settings.start_from], measured)
    if (folder / STARTS_NAME).is_file():  # a run was broken, unless it left its model
        taken = sorted(set(folder.glob(f"*{SUFFIX}")) - set(measured))
    else:
        names = (RECIPE_NAME, SPLIT_NAME, METRICS_NAME, VALIDATION_NAME, model)
        taken = [file for file in (*(folder / name for name in names), *measured) if file.exists()]
    if taken:
        raise ConfigError(
            f"{folder} holds {listed([file.name for file in taken])}, which a new run might "
            "overwrite; choose another --out"
        )


def _refuse_other_recipe(file: Path, settings: TrainingSettings) -> None:
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot resume: the recipe {file} cannot be read: {error}") from error
    with contextlib.suppress(ValidationError):  # then its own differences say why
        before = json.loads(TrainingSettings.model_validate(before).model_dump_json())
    now = json.loads(settings.model_dump_json())
    changed = _differences(before, now)
    if changed:
        listed = "; ".join(changed[:_SHOWN])
        raise ConfigError(
            f"the run was started with another recipe: {listed}; resume it with its own "
            f"({file}), or start a new one with another --out{_way_on(file.parent, before)}"
        )


def _way_on(folder: Path, recipe: Any) -> str:  # noqa: ANN401  JSON
    """How another recipe learns on from the weights of a run, where it has left a model."""
    card = recipe.get("card") if isinstance(recipe, dict) else None
    name = card.get("name") if isinstance(card, dict) else None
    files = [folder / file for file in (f"{name}{SUFFIX}", BEST_NAME, LAST_NAME)]
    model = next((file for file in files if file.is_file()), None)
    if model is None:
        return ""
    return f', with start_from = "{model.as_posix()}" in its recipe to go on from these weights'


def _differences(before: Any, now: Any, path: str = "") -> list[str]:  # noqa: ANN401  JSON
    """Key paths at which two JSON values differ, with both values.

    The order of keys counts: that of a source's `classes` tells which number is which class.
    """
    before, now = _keyed(before), _keyed(now)
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [] if before == now else [f"{path} was {_short(before)}, is {_short(now)}"]
    if before == now and list(before) != list(now):
        return [f"the order of {path} was {', '.join(before)}, is {', '.join(now)}"]
    return [
        line
        for key in dict.fromkeys([*before, *now])
        for line in _differences(before.get(key), now.get(key), f"{path}.{key}".strip("."))
    ]


def _keyed(value: Any) -> Any:  # noqa: ANN401  JSON
    """A list of tables, such as the sources, by their numbers; all else as it is."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return {str(number): item for number, item in enumerate(value)}
    return value


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."  # noqa: PLR2004
