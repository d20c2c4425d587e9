"""Which device a name means, on machines whose GPUs are played."""

from collections.abc import Callable

import pytest
import torch

from geo_retina.detection import torch_backend
from geo_retina.detection.backends import _takes_cuda
from geo_retina.detection.torch_backend import TorchDetector
from geo_retina.detection.torch_device import (
    computes_in_bfloat16,
    find_device,
    ran_out_of_memory,
    setting_up,
)
from geo_retina.errors import DeviceError
from geo_retina.model.checkpoint import read_info

PlayGpu = Callable[..., None]


@pytest.fixture
def play_gpu(monkeypatch: pytest.MonkeyPatch) -> PlayGpu:
    """`play_gpu(capability, built)`: a machine with two such GPUs, and a torch built for some."""

    def play(capability: tuple[int, int], *built: str, available: bool = True) -> None:
        for name, value in {
            "is_available": available,
            "device_count": 2,  # the driver's library counts them even where torch cannot use them
            "get_device_capability": capability,
            "get_device_name": "Old Card",
            "get_arch_list": list(built),
        }.items():
            monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
        monkeypatch.setattr(torch.version, "cuda", "13.2")

    return play


@pytest.mark.parametrize(
    ("capability", "built"),
    [
        ((7, 5), ("sm_75", "sm_80")),
        ((8, 9), ("sm_75", "sm_86")),  # a binary of the same major version
        ((12, 1), ("sm_90a", "sm_120")),
        ((15, 0), ("sm_90", "compute_90")),  # what is compiled when it is loaded
        ((6, 1), ()),  # a build that does not tell
    ],
)
def test_a_gpu_that_torch_has_code_for_is_taken(
    capability: tuple[int, int], built: tuple[str, ...], play_gpu: PlayGpu
) -> None:
    play_gpu(capability, *built)
    assert find_device("auto") == torch.device("cuda")
    assert find_device("cuda:1") == torch.device("cuda:1")
    assert computes_in_bfloat16(torch.device("cuda")) == (capability >= (8, 0))


@pytest.mark.parametrize(
    ("capability", "built"),
    [
        ((6, 1), ("sm_75", "sm_80", "compute_90")),  # too old
        ((8, 0), ("sm_75", "sm_86")),
        ((12, 0), ("sm_75", "sm_90")),  # too new
    ],
)
def test_a_gpu_that_torch_has_no_code_for_is_left_alone(
    capability: tuple[int, int],
    built: tuple[str, ...],
    play_gpu: PlayGpu,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play_gpu(capability, *built)
    assert find_device("auto") == torch.device("cpu")
    told = f"Old Card is of compute capability {capability[0]}.{capability[1]}, for which"
    assert told in caplog.text
    with pytest.raises(DeviceError, match=r"this torch has no code .*; choose --device cpu"):
        find_device("cuda")
    monkeypatch.setattr("ctypes.CDLL", lambda _: None)
    assert not _takes_cuda("auto")


def test_a_driver_that_torch_cannot_use_has_no_devices(play_gpu: PlayGpu) -> None:
    play_gpu((8, 0), "sm_80", available=False)
    assert find_device("auto") == torch.device("cpu")
    with pytest.raises(DeviceError, match="'cuda' is not there: torch can use 0 CUDA devices"):
        find_device("cuda")


def test_a_gpu_that_is_not_there_is_an_error(play_gpu: PlayGpu) -> None:
    play_gpu((8, 0), "sm_80")
    with pytest.raises(DeviceError, match="'cuda:2' is not there: torch can use 2 CUDA devices"):
        find_device("cuda:2")
    with pytest.raises(DeviceError, match="'meta' is not supported"):
        find_device("meta")


def test_a_gpu_that_cannot_be_taken_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is full, or in exclusive use by others: seen only where the network is moved there."""

    def full(_: torch.device) -> None:
        raise torch.cuda.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2 GiB.\nMore lines."
        )

    monkeypatch.setattr(torch_backend, "CudaPipe", full)
    with pytest.raises(DeviceError, match=r"cuda:1 cannot be used: CUDA out of .* 2 GiB; choose"):
        TorchDetector(read_info("tree-crowns"), torch.device("cuda:1"))
    with pytest.raises(RuntimeError, match=r"^a fault$"), setting_up(torch.device("cpu")):
        raise RuntimeError("a fault")


def test_cudnn_says_in_its_own_words_that_memory_is_full() -> None:
    text = "GET was unable to find an engine to execute this computation"
    assert ran_out_of_memory(RuntimeError(text))
    assert not ran_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
