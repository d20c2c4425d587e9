"""TOML files and `key=value` overrides into settings; unknown keys are errors."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from geo_retina.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound=BaseModel)


def load_settings(
    path: str | Path, kind: type[SettingsT], *, overrides: Sequence[str] = ()
) -> SettingsT:
    """Read settings from a TOML file.

    Args:
        path: The file.
        kind: The type that the whole file describes.
        overrides: `dotted.key=value` texts; the value is TOML, or a plain word.

    Raises:
        ConfigError: The file is missing or not TOML, a key is unknown, or a value does not fit.
    """
    try:
        with Path(path).open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    for override in overrides:
        _override(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error, kind)}") from error


def _override(values: dict[str, Any], text: str) -> None:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"expected key=value, such as schedule.steps=200, got {text!r}")
    *parents, last = key.strip().split(".")
    place = values
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{key!r}: {parent!r} holds a value, not a table")
    try:
        place[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        place[last] = value.strip()


def _explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """One line a fault: the key's path, what is wrong, and the nearest known key."""
    lines = []
    for fault in error.errors():
        path = ".".join(str(part) for part in fault["loc"]) or "file"
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(fault["loc"][-1]), _known_keys(kind), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            lines.append(f"unknown key {path!r}{hint}")
        else:
            lines.append(f"{path}: {fault['msg']} (got {_short(fault.get('input'))})")
    return "; ".join(lines)


def _known_keys(kind: type[BaseModel]) -> list[str]:
    """Names of all keys of a settings type and of the types inside it."""
    schema: Mapping[str, Any] = kind.model_json_schema()
    tables = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for table in tables for key in table.get("properties", {})})


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004
