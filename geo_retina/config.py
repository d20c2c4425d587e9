"""TOML files and `key=value` overrides into settings; unknown keys are errors."""

import codecs
import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from geo_retina.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound=BaseModel)

_SHORT = 60
_ON_BACKSLASHES = "write paths with / instead of \\"


def load_settings(
    path: str | Path, kind: type[SettingsT], *, overrides: Sequence[str] = ()
) -> SettingsT:
    """Read settings from a TOML file, or from the JSON of a run's `recipe.json`.

    Args:
        path: The file.
        kind: The type that the whole file describes.
        overrides: `dotted.key=value` texts; the value is TOML, or a plain word. Entries of a list
            are counted from 0: `train.0.weight=2`.

    Raises:
        ConfigError: The file is missing or not TOML, a key is unknown, or a value does not fit.
    """
    values = _read(Path(path))
    for override in overrides:
        _override(values, override)
    settings: SettingsT = parse_settings(values, kind, source=str(path))
    return settings


def bundled_recipes() -> dict[str, Path]:
    """Paths of the recipes that come with the package, by the name that `train` takes."""
    return {path.stem: path for path in sorted(_recipe_folder().glob("*.toml"))}


def bundled_cards() -> dict[str, Path]:
    """Paths of the cards that come with the package, for `convert --as`, as `cards/NAME`."""
    found = sorted((_recipe_folder() / "cards").glob("*.toml"))
    return {f"cards/{path.stem}": path for path in found}


def find_recipe(recipe: str | Path) -> Path:
    """Path of a recipe, given its path or the name of one that comes with the package.

    Raises:
        ConfigError: Neither.
    """
    path, known = Path(recipe), bundled_recipes()
    if not path.is_file() and str(recipe) in known:
        return known[str(recipe)]
    if not path.exists():
        raise ConfigError(
            f"cannot read the configuration {path}: expected the path of a recipe, or one of those "
            f"that come with the package ({', '.join(known) or 'none'})"
        )
    return path


def _recipe_folder() -> Path:
    """In an installed package inside it, in a checkout beside it."""
    package = Path(str(resources.files("geo_retina")))
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "configs"


def parse_settings(values: Mapping[str, object], kind: Any, *, source: str) -> Any:  # noqa: ANN401
    """Turn plain values into settings.

    Args:
        values: As a TOML file gives them.
        kind: A settings type, or a union of some that a key tells apart.
        source: Where the values come from, for messages.

    Raises:
        ConfigError: A key is unknown, or a value does not fit.
    """
    adapter = TypeAdapter(kind)
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        schema = adapter.json_schema()
        told = _explain(error, _known_keys(schema), _tags(schema))
        raise ConfigError(f"{source}: {told}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        text = _text(path.read_bytes())
        values: dict[str, Any] = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    except (ValueError, RecursionError) as error:  # of either format; no UTF-8; nested too deep
        what = "JSON" if path.suffix == ".json" else "TOML"
        hint = f"; {_ON_BACKSLASHES}" if "\\" in str(error) or "hex value" in str(error) else ""
        raise ConfigError(f"{path} is not valid {what}: {error}{hint}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected named values, got {_short(values)}")
    return values


def _text(content: bytes) -> str:
    """A text in UTF-8, or as Windows PowerShell writes what `>` sends to a file."""
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf_16 else "utf-8-sig")


def _override(values: dict[str, Any], text: str) -> None:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"expected key=value, such as schedule.steps=200, got {text!r}")
    path = key.strip().split(".")
    last = path[-1]
    place: Any = values
    for parent, child in pairwise(path):
        if isinstance(place, dict) and parent not in place and child.isdecimal():
            raise ConfigError(
                f"{key!r}: there is no table [[{parent}]] to change; write one into a copy of the "
                "file (of a bundled recipe: `geo-retina recipes NAME > my.toml`)"
            )
        place = _enter(place, parent, key)
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        parsed = value.strip()
    if isinstance(place, list):
        _enter(place, last, key)
        place[int(last)] = parsed
    elif isinstance(place, dict):
        place[last] = parsed
    else:
        raise ConfigError(f"{key!r}: what holds {last!r} is a value, not a table")


def _enter(place: Any, name: str, key: str) -> Any:  # noqa: ANN401  whatever TOML knows
    """The table or list entry called `name`; a table that is not there is made."""
    if isinstance(place, dict):
        return place.setdefault(name, {})
    if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
        return place[int(name)]
    if isinstance(place, list):
        raise ConfigError(f"{key!r}: expected an entry 0 to {len(place) - 1}, got {name!r}")
    raise ConfigError(f"{key!r}: what holds {name!r} is a value, not a table")


def _explain(error: ValidationError, known: Sequence[str], tags: AbstractSet[str]) -> str:
    """What is wrong, one part a fault: the key's path, the fault, and the nearest known key.

    Pydantic names the chosen type of a union, a tag, as if it were a key; and a list whose entries
    are at fault it calls too short as well.
    """
    lines = []
    faults = error.errors()
    for fault in faults:
        where = fault["loc"]
        if fault["type"] == "too_short" and any(
            other["loc"][: len(where)] == where for other in faults if other is not fault
        ):
            continue
        parts = [
            str(part)
            for number, part in enumerate(where)
            if part not in tags or number == len(where) - 1 or not number
        ]
        path = ".".join(parts) or "the whole"
        if fault["type"] == "extra_forbidden":
            lines.append(_unknown_key(path, where, known, tags))
        elif fault["type"] == "value_error":
            lines.append(f"{path}: {fault['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(f"{path}: {fault['msg']} (got {_short(fault.get('input'))})")
    return "; ".join(lines)


def _unknown_key(
    path: str, where: Sequence[str | int], known: Sequence[str], tags: AbstractSet[str]
) -> str:
    """An unknown key, and what may have been meant."""
    *parents, last = map(str, where)
    kind = parents[-1] if parents and parents[-1] in tags else None
    if last in known and kind is not None:
        table = path.rpartition(".")[0]
        return (
            f"{path!r} does not belong to kind = {kind!r}: leave it out, or on the command line "
            f"give the whole table anew: {table}='{{kind=\"{kind}\"}}'"
        )
    near = difflib.get_close_matches(last, [key for key in known if key != last], n=1)
    return f"unknown key {path!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _tags(schema: object) -> set[str]:
    """Names by which unions in a JSON schema tell their types apart."""
    if isinstance(schema, Mapping):
        here = schema.get("discriminator")
        own = set(here.get("mapping", {})) if isinstance(here, Mapping) else set()
        return own.union(*map(_tags, schema.values()))
    if isinstance(schema, list):
        return set[str]().union(*map(_tags, schema))
    return set()


def _known_keys(schema: Mapping[str, Any]) -> list[str]:
    """Names of all keys of a settings type and of the types inside it."""
    tables = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for table in tables for key in table.get("properties", {})})


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."
