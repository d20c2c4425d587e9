"""The network that the peers run: torchvision's, in a peer's environment, without a download."""

from typing import Any


def resnet50_fpn(threads: int) -> Any:  # noqa: ANN401  no types without torchvision
    """ResNet-50 with its pyramid, as RetinaNet has it, without weights; torch uses `threads`."""
    import torch
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    torch.set_num_threads(threads)
    return resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
