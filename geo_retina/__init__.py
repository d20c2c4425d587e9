"""Detect dense, small objects in large georeferenced rasters with a focal-loss RetinaNet.

    import geo_retina

    trees = geo_retina.detect("orthophoto.tif", model="tree-crowns")  # a GeoDataFrame

Names load when first used: importing the package loads neither torch nor geopandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geo_retina.card import ModelCard
    from geo_retina.detection.backends import Model, load_model
    from geo_retina.detection.file_run import detect_to_files
    from geo_retina.detection.options import DetectOptions, OutputOptions, WorkOptions
    from geo_retina.detection.own_detector import wrap_detector
    from geo_retina.detection.run import detect
    from geo_retina.detection.run_summary import RunSummary
    from geo_retina.errors import GeoRetinaError
    from geo_retina.model.checkpoint import bundled_models
    from geo_retina.space.detections import Detections
    from geo_retina.space.grid import Grid
    from geo_retina.space.windows import Window

    __version__: str

__all__ = [
    "DetectOptions",
    "Detections",
    "GeoRetinaError",
    "Grid",
    "Model",
    "ModelCard",
    "OutputOptions",
    "RunSummary",
    "Window",
    "WorkOptions",
    "bundled_models",
    "detect",
    "detect_to_files",
    "load_model",
    "wrap_detector",
]

_HOMES = {
    "DetectOptions": "geo_retina.detection.options",
    "Detections": "geo_retina.space.detections",
    "GeoRetinaError": "geo_retina.errors",
    "Grid": "geo_retina.space.grid",
    "Model": "geo_retina.detection.backends",
    "ModelCard": "geo_retina.card",
    "OutputOptions": "geo_retina.detection.options",
    "RunSummary": "geo_retina.detection.run_summary",
    "Window": "geo_retina.space.windows",
    "WorkOptions": "geo_retina.detection.options",
    "bundled_models": "geo_retina.model.checkpoint",
    "detect": "geo_retina.detection.run",
    "detect_to_files": "geo_retina.detection.file_run",
    "load_model": "geo_retina.detection.backends",
    "wrap_detector": "geo_retina.detection.own_detector",
}


if not TYPE_CHECKING:  # to which any misspelt name would be one of the package's

    def __getattr__(name: str) -> Any:  # noqa: ANN401  any of the public names
        if name == "__version__":
            return import_module("importlib.metadata").version("geo-retina")
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
