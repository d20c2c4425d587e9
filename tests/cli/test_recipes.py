import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geo_retina import config
from geo_retina.config import bundled_cards, bundled_recipes, find_recipe, load_settings
from geo_retina.errors import ConfigError
from geo_retina.training.settings import TrainingSettings

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


def test_recipes_are_listed_with_what_they_are_for(run: Callable[..., Any]) -> None:
    done = run("recipes")
    assert done.exit_code == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    files = [*CONFIGS.glob("*.toml"), *CONFIGS.glob("cards/*.toml")]
    names = {path.relative_to(CONFIGS).with_suffix("").as_posix() for path in files}
    assert set(lines) == names
    assert all(text.endswith(".") and len(text) < 100 for text in lines.values()), lines


@pytest.mark.parametrize("name", ["two-cores", "cards/deepforest"])
def test_a_recipe_is_printed_as_it_is(name: str, run: Callable[..., Any]) -> None:
    done = run("recipes", name)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == (CONFIGS / f"{name}.toml").read_text()


def test_an_unknown_recipe_names_the_known_ones(run: Callable[..., Any]) -> None:
    for command in ("recipes", "train"):
        done = run(command, "birds")
        assert done.exit_code == 2
        assert "birds" in done.stderr
        assert "dense-small, four-band-naip" in done.stderr
        assert done.stderr.count("\n") == 1


def test_train_takes_a_name(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("train", "two-cores", "train.0.labels=none/none.gpkg", "train.0.images=none",
               "--device", "cpu", "--out", "out")  # fmt: skip
    assert done.exit_code == 2
    assert done.stderr.startswith("error: none"), "the recipe was read, its labels are not there"


def test_a_file_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dense-small").mkdir()
    assert find_recipe("dense-small") == CONFIGS / "dense-small.toml"
    Path("two-cores").touch()
    assert find_recipe("two-cores") == Path("two-cores")
    with pytest.raises(ConfigError, match=r"cannot read the configuration two-cores\.toml"):
        find_recipe("two-cores.toml")


def test_an_installed_package_has_them_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes" / "cards").mkdir(parents=True)
    (tmp_path / "recipes" / "one.toml").touch()
    (tmp_path / "recipes" / "cards" / "two.toml").touch()
    monkeypatch.setattr(config.resources, "files", lambda _: tmp_path)
    assert list(bundled_recipes()) == ["one"]
    assert list(bundled_cards()) == ["cards/two"]


def test_a_wheel_takes_them_in() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    targets = project["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"]["force-include"] == {"configs": "geo_retina/recipes"}
    assert "configs" in targets["sdist"]["include"]


def test_recipes_are_listed_without_what_training_needs() -> None:
    code = (
        "from geo_retina.config import bundled_recipes; bundled_recipes(); import sys;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_work_in_python_too() -> None:
    recipe = load_settings(find_recipe("dense-small"), TrainingSettings)
    assert recipe.card.name == "my-objects"
