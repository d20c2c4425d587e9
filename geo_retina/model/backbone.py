"""The bottom-up pathway: features C2..C5 at strides 4, 8, 16 and 32."""

from abc import ABC, abstractmethod
from functools import partial
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from geo_retina.errors import ModelError
from geo_retina.model.settings import BackboneSettings

STAGES = (2, 3, 4, 5)
"""Levels of C2..C5; stage l has stride 2**l."""

_RESNETS = {"resnet18": 64, "resnet34": 64, "resnet50": 256, "resnet101": 256}  # channels of C2
_RESNET_EPS = 1e-5


class Backbone(nn.Module, ABC):
    """Features of an image at four strides.

    `forward` maps (N, bands, H, W) to four tensors (N, channels[i], H / 2**l, W / 2**l) for the
    levels l of `STAGES`; H and W are multiples of 32.
    """

    architecture: str
    """Name in torchvision or timm."""
    in_bands: int
    """Bands of an image."""
    channels: tuple[int, int, int, int]
    """Channels of C2..C5."""

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute C2..C5."""


class FrozenBatchNorm(nn.Module):
    """Batch norm with fixed statistics, scale and shift, named as in torchvision's.

    torchvision's own multiplies by float32 buffers, which makes all that follows float32 where a
    network computes in a smaller type; this one keeps the type.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            self.register_buffer(name, torch.full((channels,), float(value)))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (N, channels, H, W)."""
        mean, variance = self.running_mean, self.running_var
        return nn.functional.batch_norm(
            features, mean, variance, self.weight, self.bias, eps=self.eps
        )


class ResNetBackbone(Backbone):
    """torchvision's ResNet without its classifier; parameter names are torchvision's."""

    def __init__(self, settings: BackboneSettings, in_bands: int) -> None:
        super().__init__()
        from torchvision.models import resnet

        norm = FrozenBatchNorm if settings.frozen_batch_norm else nn.BatchNorm2d
        eps = _RESNET_EPS if settings.batch_norm_eps is None else settings.batch_norm_eps
        body = getattr(resnet, settings.name)(weights=None, norm_layer=partial(norm, eps=eps))
        self.architecture = settings.name
        self.in_bands = in_bands
        self.conv1 = widen_first_convolution(body.conv1, in_bands)
        self.bn1, self.relu, self.maxpool = body.bn1, body.relu, body.maxpool
        self.layer1, self.layer2 = body.layer1, body.layer2
        self.layer3, self.layer4 = body.layer3, body.layer4
        first = _RESNETS[settings.name]
        self.channels = (first, 2 * first, 4 * first, 8 * first)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute C2..C5."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        stages = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            features = layer(features)
            stages.append(features)
        return stages


class TimmBackbone(Backbone):
    """Any timm architecture that offers `features_only` at strides 4 to 32."""

    body: Any
    """timm's own feature network, an `nn.Module`."""

    def __init__(self, settings: BackboneSettings, in_bands: int) -> None:
        super().__init__()
        self.architecture = settings.name.removeprefix("timm:")
        self.in_bands = in_bands
        self.stages = _timm_stages(self.architecture)
        self.body = timm_features(self.architecture, out_indices=self.stages, in_chans=in_bands)
        fix_padding(self.body)
        self.channels = tuple(self.body.feature_info.channels())
        self.channels_last = str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC")
        self.frozen_batch_norm = settings.frozen_batch_norm
        for layer in self._batch_norms():
            layer.requires_grad_(requires_grad=not self.frozen_batch_norm)
            layer.eps = layer.eps if settings.batch_norm_eps is None else settings.batch_norm_eps

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute C2..C5."""
        stages = cast("list[Tensor]", self.body(images))
        if self.channels_last:  # Swin and its kin
            return [stage.permute(0, 3, 1, 2) for stage in stages]
        return stages

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  torch's own signature
        """Switch to training; frozen batch norms keep their statistics."""
        super().train(mode)
        if self.frozen_batch_norm:
            for layer in self._batch_norms():
                layer.eval()
        return self

    def _batch_norms(self) -> list[nn.BatchNorm2d]:
        return [layer for layer in self.body.modules() if isinstance(layer, nn.BatchNorm2d)]


def build_backbone(settings: BackboneSettings, in_bands: int) -> Backbone:
    """Build a backbone with random weights.

    Raises:
        ModelError: The name is unknown, or the architecture lacks a stride.
    """
    if settings.name.startswith("timm:"):
        return TimmBackbone(settings, in_bands)
    if settings.name not in _RESNETS:
        raise ModelError(
            f"unknown backbone {settings.name!r}; known: {', '.join(_RESNETS)}, or timm:NAME"
        )
    return ResNetBackbone(settings, in_bands)


def timm_features(name: str, **options: Any) -> nn.Module:  # noqa: ANN401  timm's own options
    """Build a timm network that returns features, for images of any size.

    Raises:
        ModelError: timm has no such network, or cannot take features from it.
    """
    import timm

    if ":" in name:  # timm would ask a server, or read a folder, that a checkpoint names
        raise ModelError(
            f"expected the name of a timm architecture, got the address {name!r}; "
            "`timm.list_models()` lists the names"
        )
    create = partial(timm.create_model, name, features_only=True, **options)
    try:
        try:
            network: nn.Module = create(strict_img_size=False)  # for windowed transformers
        except TypeError:
            network = create()
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise ModelError(
            f"timm cannot build features of {name!r} ({error}); `timm.list_models()` lists the "
            "names, choose a convolutional or windowed one"
        ) from error
    return network


class SameConvolution(nn.Conv2d):
    """A convolution padded as TensorFlow does, for images whose sides its stride divides.

    There the padding is the same whatever the size of the image. timm works it out from the size
    each time, which makes every size in an exported graph a formula of all paddings before it:
    an export of `tf_efficientnet_lite1` had not ended after ten minutes.
    """

    def __init__(self, known: nn.Conv2d) -> None:
        """Take over the settings and the very parameters of `known`, whose own padding is 0."""
        super().__init__(
            known.in_channels,
            known.out_channels,
            cast("tuple[int, int]", known.kernel_size),
            stride=cast("tuple[int, int]", known.stride),
            dilation=cast("tuple[int, int]", known.dilation),
            groups=known.groups,
            bias=known.bias is not None,
        )
        self.weight, self.bias = known.weight, known.bias
        sides = zip(self.kernel_size, self.stride, self.dilation, strict=True)
        rows, columns = (max((side - 1) * d + 1 - stride, 0) for side, stride, d in sides)
        self.pads = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        """Left, right, upper and lower, as `torch.nn.functional.pad` takes them."""

    def forward(self, images: Tensor) -> Tensor:
        """Pad and convolve; a stride in the sides of the images."""
        return super().forward(nn.functional.pad(images, self.pads))


def fix_padding(network: nn.Module) -> None:
    """Give timm's convolutions of TensorFlow's padding a constant one, in place."""
    from timm.layers.conv2d_same import Conv2dSame

    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Conv2dSame):
                setattr(parent, name, SameConvolution(layer))


def widen_first_convolution(conv: nn.Conv2d, in_bands: int) -> nn.Conv2d:
    """Return the first convolution for `in_bands` bands, made from one for three.

    See `adapt_filters` for what becomes of the filters.
    """
    if conv.in_channels == in_bands:
        return conv
    wider = nn.Conv2d(
        in_bands,
        conv.out_channels,
        kernel_size=cast("tuple[int, int]", conv.kernel_size),
        stride=cast("tuple[int, int]", conv.stride),
        padding=cast("tuple[int, int]", conv.padding),
        bias=conv.bias is not None,
    )
    with torch.no_grad():
        wider.weight.copy_(adapt_filters(conv.weight, in_bands))
        if conv.bias is not None and wider.bias is not None:
            wider.bias.copy_(conv.bias)
    return wider


def adapt_filters(weight: Tensor, in_bands: int) -> Tensor:
    """Make filters for `in_bands` bands from filters for another number of bands.

    The known bands are repeated in order and scaled by known / `in_bands`; what is then missing of
    the sum over the bands is spread evenly over them. So an image whose bands are alike gives the
    same response as before, and 6, 9... bands are the known three over and over.

    Args:
        weight: (filters, bands, k, k), usually of 3 bands.
        in_bands: Bands wanted.

    Returns:
        (filters, in_bands, k, k).
    """
    bands = weight.shape[1]
    repeated = weight.repeat(1, -(-in_bands // bands), 1, 1)[:, :in_bands] * (bands / in_bands)
    missing = weight.sum(dim=1, keepdim=True) - repeated.sum(dim=1, keepdim=True)
    return repeated + missing / in_bands


def _timm_stages(name: str) -> tuple[int, ...]:
    """Numbers of the features that timm gives at strides 4, 8, 16 and 32; the deepest of each."""
    information = cast("Any", timm_features(name).feature_info)
    at_stride = dict(zip(information.reduction(), information.out_indices, strict=True))
    if not all(2**level in at_stride for level in STAGES):
        raise ModelError(
            f"backbone timm:{name} must offer features at strides 4, 8, 16 and 32, it has "
            f"{information.reduction()}; choose another one"
        )
    return tuple(at_stride[2**level] for level in STAGES)
