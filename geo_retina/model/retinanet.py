"""RetinaNet: "Focal Loss for Dense Object Detection", arXiv 1708.02002."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geo_retina.errors import ModelError
from geo_retina.model.anchors import chip_anchors
from geo_retina.model.backbone import build_backbone
from geo_retina.model.heads import HeadOutputs, Heads
from geo_retina.model.pyramid import Pyramid
from geo_retina.model.settings import CHIP_MULTIPLE_PX, NetworkSettings


class RetinaNet(nn.Module):
    """Bottom-up backbone, feature pyramid, class and box subnets (figure 3 of the paper)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = build_backbone(settings.backbone, settings.in_bands)
        self.pyramid = Pyramid(
            self.backbone.channels,
            levels=settings.levels,
            width=settings.pyramid_width,
            p6_from=settings.p6_from,
            separable=settings.separable,
        )
        self.heads = Heads(
            settings.pyramid_width,
            settings.anchors.per_location,
            settings.num_classes,
            settings.head,
            separable=settings.separable,
        )

    def forward(self, images: Tensor) -> HeadOutputs:
        """Raw outputs for (N, bands, H, W) normalised images; H and W multiples of 32.

        Raises:
            ModelError: The images have another number of bands or another shape.
        """
        exporting = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined,no-untyped-call]
        if not exporting:
            self._check(images)
        outputs: HeadOutputs = self.heads(self.pyramid(self.backbone(images)))
        return outputs

    def anchors(self, images: Tensor) -> list[Tensor]:
        """Anchors of chips of this size, one (A_l, 4) tensor a level, on the images' device."""
        height, width = images.shape[-2:]
        return chip_anchors(
            self.settings.anchors,
            levels=self.settings.levels,
            height=height,
            width=width,
            device=images.device,
        )

    def _check(self, images: Tensor) -> None:
        bands = self.settings.in_bands
        if images.ndim != 4 or images.shape[1] != bands:  # noqa: PLR2004
            raise ModelError(
                f"expected images of shape (N, {bands}, H, W), got {tuple(images.shape)}; pass the "
                f"{bands} bands the network was built for, in its order"
            )
        height, width = images.shape[-2:]
        if 0 in (height, width) or height % CHIP_MULTIPLE_PX or width % CHIP_MULTIPLE_PX:
            raise ModelError(
                f"expected chips of multiples of {CHIP_MULTIPLE_PX} px, got {height} x {width}; "
                "choose such a chip size, or pad the chip below and to the right"
            )


def normalise(
    pixels: Tensor,
    *,
    value_range: tuple[float, float],
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """Scale (N, bands, H, W) pixels of any type to [0, 1], subtract `mean`, divide by `std`.

    Args:
        pixels: Values as in the chips.
        value_range: Values that stand for 0 and 1.
        mean: Of each band after scaling.
        std: Of each band after scaling.

    Returns:
        (N, bands, H, W) float32.
    """
    centre, spread = band_scale(value_range=value_range, mean=mean, std=std, device=pixels.device)
    return (pixels.float() - centre) / spread


def band_scale(
    *,
    value_range: tuple[float, float],
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """What `normalise` subtracts and divides by: (bands, 1, 1) each, in units of the pixels."""
    low, high = value_range
    centre = torch.tensor(mean, device=device).view(-1, 1, 1) * (high - low) + low
    spread = torch.tensor(std, device=device).view(-1, 1, 1) * (high - low)
    return centre, spread


def build_retinanet(settings: NetworkSettings) -> RetinaNet:
    """Build a network with random weights, initialised as in section 4.1.

    Raises:
        ModelError: The backbone is unknown or does not fit.
    """
    return RetinaNet(settings)
