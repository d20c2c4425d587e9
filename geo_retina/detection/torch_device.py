"""Devices that torch runs on, by the names that users type."""

from typing import TYPE_CHECKING

from geo_retina.errors import DeviceError

if TYPE_CHECKING:
    import torch


def find_device(name: str) -> "torch.device":
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device.

    Raises:
        DeviceError: The name is unknown or the device is not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name!r} is not there: {torch.cuda.device_count()} CUDA devices are visible; "
            "choose --device cpu or auto"
        )
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not supported; expected auto, cpu, cuda or cuda:N")
    return device


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch says that a device, or the host's pinned memory, is full."""
    import torch

    told = ("out of memory", "ALLOC_FAILED", "not enough memory", "can't allocate memory")
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in told)
    )
