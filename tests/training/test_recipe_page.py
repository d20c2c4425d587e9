"""The page of a recipe's keys names them all, with the defaults that the settings have."""

import json
import re
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from geo_retina.model.criterion import LossSettings
from geo_retina.model.settings import BackboneSettings, HeadSettings, NetworkSettings
from geo_retina.training.settings import AugmentSettings, ScheduleSettings, ValidationSettings

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"
TABLES: dict[str, type[BaseModel]] = {
    "schedule": ScheduleSettings,
    "augment": AugmentSettings,
    "loss": LossSettings,
    "validation": ValidationSettings,
    "network": NetworkSettings,
    "network.backbone": BackboneSettings,
    "network.head": HeadSettings,
}
IN_WORDS = {
    "network.levels": "fitted to the labels",
    "network.anchors": "fitted to the labels",
}


def _as_printed(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        values = field.default.model_dump().items()
        return f"`{{{', '.join(f'{key} = {json.dumps(value)}' for key, value in values)}}}`"
    return "none" if field.default is None else f"`{json.dumps(field.default)}`"


def test_the_page_names_all_keys_with_their_defaults() -> None:
    printed = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", PAGE.read_text(), re.MULTILINE))
    expected = {
        key: IN_WORDS.get(key) or _as_printed(field)
        for table, settings in TABLES.items()
        for name, field in settings.model_fields.items()
        if (key := f"{table}.{name}") not in TABLES
    }
    assert printed == expected
