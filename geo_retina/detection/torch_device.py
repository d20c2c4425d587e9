"""Devices that torch runs on, by the names that users type."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from geo_retina.errors import DeviceError

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)
_BFLOAT16_SINCE = (8, 0)  # NVIDIA's compute capability


def find_device(name: str) -> "torch.device":
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device.

    `auto` is a GPU where there is one that this build of torch has code for.

    Raises:
        DeviceError: The name is unknown, or the device is not there or not one that torch can use.
    """
    import torch

    if name == "auto":
        return _best_device()
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise DeviceError(f"device {name!r} is not supported; expected auto, cpu, cuda or cuda:N")
    # devices are counted without the driver: beside one that is too old there are some of no use
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= usable:
        raise DeviceError(
            f"device {name!r} is not there: torch can use {usable} CUDA devices; choose --device "
            "cpu or auto"
        )
    with setting_up(device):
        lacking = _lacking_code(device)
    if lacking is not None:
        raise DeviceError(f"{lacking}; choose --device cpu or auto")
    return device


@contextmanager
def setting_up(device: "torch.device") -> Iterator[None]:
    """Turn what torch says of a GPU that it cannot take into an error that says what to do.

    Raises:
        DeviceError: The GPU is full, in exclusive use by others, or began before a fork.
    """
    try:
        yield
    except RuntimeError as error:
        if device.type != "cuda":
            raise
        reason = str(error).split("\n", maxsplit=1)[0].rstrip(".")
        raise DeviceError(
            f"{device} cannot be used: {reason}; choose --device cpu, or another GPU (cuda:N)"
        ) from error


def _best_device() -> "torch.device":
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda")
    with setting_up(device):
        lacking = _lacking_code(device)
    if lacking is None:
        return device
    _log.warning("%s: computing on the CPU", lacking)
    return torch.device("cpu")


def _lacking_code(device: "torch.device") -> str | None:
    """Why this build of torch cannot compute on a GPU, or None.

    torch counts such a GPU among those that are available, and fails at the first computation.
    Binaries (`sm_75`) run on GPUs of their major version and at least their minor one, PTX
    (`compute_90`) on all that are as new (CUDA C++ Programming Guide, section 3.1).
    """
    import torch

    built = torch.cuda.get_arch_list()
    if torch.version.cuda is None or not built:  # ROCm has names of its own
        return None
    major, minor = torch.cuda.get_device_capability(device)
    for name in built:
        kind, _, number = name.partition("_")
        code = divmod(int(number.rstrip("af")), 10)
        as_new = code <= (major, minor)
        if as_new and (kind == "compute" or code[0] == major):
            return None
    return (
        f"{torch.cuda.get_device_name(device)} is of compute capability {major}.{minor}, for which "
        f"this torch has no code (it has {', '.join(built)})"
    )


def computes_in_bfloat16(device: "torch.device") -> bool:
    """Whether a GPU computes in bfloat16 itself; torch imitates it slowly on older ones."""
    import torch

    return torch.cuda.get_device_capability(device) >= _BFLOAT16_SINCE


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch says that a device, or the host's pinned memory, is full."""
    import torch

    told = (
        "out of memory",
        "ALLOC_FAILED",
        "not enough memory",
        "can't allocate memory",
        "unable to find an engine",  # cuDNN, where no algorithm's workspace fits
    )
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in told)
    )
