"""Graphs compiled by OpenVINO for this machine, and kept for the next run."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from geo_retina.cores import usable_cores, visible_cores
from geo_retina.errors import ModelError
from geo_retina.model.openvino_import import load_openvino

if TYPE_CHECKING:
    import openvino as ov

_log = logging.getLogger(__name__)


def has_bfloat16() -> bool:
    """Whether this machine's processor computes in bfloat16, which halves the time of float32."""
    return "BF16" in load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def compile_graph(path: Path, *, bfloat16: bool = False) -> "ov.CompiledModel":
    """Compile a graph for this machine, or take it from the user's cache.

    Args:
        path: The `.xml` file.
        bfloat16: Compute in bfloat16 what the graph has in float32.

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
        # without the hint some processors would take bfloat16 unasked
        precision = "bf16" if bfloat16 else "f32"
        settings: dict[str, str | int] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": precision,
        }
        if usable_cores() < visible_cores():  # OpenVINO counts the others too
            settings["INFERENCE_NUM_THREADS"] = usable_cores()
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
