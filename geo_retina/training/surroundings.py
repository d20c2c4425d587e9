"""With what a training was started, so that one can tell later why another one differs."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from geo_retina.errors import OutputError

STARTS_NAME = "starts.jsonl"
"""File in the run folder with a line of JSON for each start, the resumed ones included."""

_PACKAGES = (
    "geo-retina",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "timm",
    "albumentations",
    "numpy",
    "rasterio",
)


def note_start(folder: Path, *, device: torch.device, devices: int, resumed: bool) -> None:
    """Write down the command, the versions and the machine of a start.

    Args:
        folder: Run folder.
        device: On which the network is trained.
        devices: How many of them.
        resumed: Whether a broken training goes on.

    Raises:
        OutputError: It cannot be written.
    """
    on_gpu = device.type == "cuda"
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "resumed": resumed,
        "command": sys.argv,
        "folder": os.fspath(Path.cwd()),
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "devices": devices,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }
    try:
        with (folder / STARTS_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(start) + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {folder / STARTS_NAME}: {error}") from error


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
