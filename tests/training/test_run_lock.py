"""A run folder belongs to one training, until its process ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geo_retina.errors import ConfigError, LabelError, OutputError
from geo_retina.training.fit import fit
from geo_retina.training.run_lock import LOCK_NAME, hold_folder

HOLDER = """
import os, sys, time
from pathlib import Path
from geo_retina.training.run_lock import hold_folder

with hold_folder(Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""
"""Holds a folder, with a worker that outlives it."""


def test_one_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    with hold_folder(folder):
        with pytest.raises(ConfigError, match=r"another training is using.*another --out"):
            hold_folder(folder).__enter__()
        assert (folder / LOCK_NAME).is_file()
        (folder / "recipe.json").touch()
    assert [path.name for path in folder.iterdir()] == ["recipe.json"]
    with hold_folder(folder):
        pass


def test_a_folder_that_nothing_came_into_is_gone_again(tmp_path: Path) -> None:
    with hold_folder(tmp_path / "runs" / "one"):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / "empty").mkdir()
    with hold_folder(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


def test_a_killed_training_lets_go_though_its_workers_live(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        worker = int(holder.stdout.readline())
        try:
            time.sleep(0.1)
            with pytest.raises(ConfigError, match="another training"):
                hold_folder(tmp_path).__enter__()
            holder.kill()
            holder.wait()
            assert (tmp_path / LOCK_NAME).is_file()
            with hold_folder(tmp_path):
                pass
        finally:
            os.kill(worker, signal.SIGKILL)


def test_the_folder_is_looked_at_before_the_labels(
    recipe: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    def train(out: str) -> None:
        fit(recipe(), data_folder=tmp_path / "none", run_folder=tmp_path / out, device="cpu")

    with pytest.raises(OutputError, match=r"cannot write the run folder .*another --out"):
        train("file/run")
    with pytest.raises(OutputError, match="cannot write the run folder"):
        train("file")
    with hold_folder(tmp_path / "run"), pytest.raises(ConfigError, match="another training"):
        train("run")
    with pytest.raises(LabelError):
        train("run")
    assert not (tmp_path / "run").exists()


def test_other_processes_of_a_training_share_its_folder(
    recipe: Callable[..., Any],
    field_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("geo_retina.training.fit.is_first_process", lambda: False)
    with hold_folder(tmp_path / "run"):
        fit(recipe(), data_folder=field_data, run_folder=tmp_path / "run", device="cpu")
        assert (tmp_path / "run" / LOCK_NAME).is_file()
