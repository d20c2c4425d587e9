"""Graphs compiled by OpenVINO for this machine, and kept for the next run."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from geo_retina.errors import ModelError
from geo_retina.model.openvino_import import load_openvino

if TYPE_CHECKING:
    import openvino as ov

_log = logging.getLogger(__name__)


def compile_graph(path: Path) -> "ov.CompiledModel":
    """Compile a graph for this machine, or take it from the user's cache.

    Raises:
        ModelError: It cannot be read.
    """
    ov = load_openvino()
    core = ov.Core()
    cache = cache_folder()
    if cache is not None:
        core.set_property({"CACHE_DIR": str(cache)})
    try:
        model = core.read_model(path)
        # float32 where the graph says so: some processors would take bfloat16 unasked
        settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        return core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO cannot use {path}: {str(error).strip().splitlines()[-1]}; update openvino, "
            "export it again, or choose --backend torch"
        ) from error


def cache_folder() -> Path | None:
    """Folder for compiled graphs, made if need be; None where the user has no place to write."""
    home = Path("~").expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    folder = base / "geo_retina" / "openvino"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _log.info("compiled graphs are not kept: %s", error)
        return None
    return folder if os.access(folder, os.W_OK) else None
