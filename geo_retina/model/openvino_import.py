"""OpenVINO, imported without its model converter."""

import sys
from typing import Any

_CONVERTER = "openvino.tools.ovc"


def load_openvino() -> Any:  # noqa: ANN401  OpenVINO has no types
    """Import OpenVINO without its model converter.

    The package imports the converter where it can, although nothing here converts models. That
    would be a third of the time it takes to load, and it would report the use of OpenVINO to its
    maker, unless the user has forbidden that. `openvino.convert_model` imports the converter when
    it is called.
    """
    if "openvino" not in sys.modules and _CONVERTER not in sys.modules:
        # the import system's own way to say that a module is not to be found
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]
        try:
            import openvino
        finally:
            del sys.modules[_CONVERTER]
        openvino.convert_model = _convert_model
    import openvino

    return openvino


def _convert_model(*args: Any, **options: Any) -> Any:  # noqa: ANN401  whatever OpenVINO takes
    from openvino.tools.ovc import convert_model

    return convert_model(*args, **options)
