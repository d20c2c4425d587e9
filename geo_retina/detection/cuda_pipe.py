"""The way of chips to a GPU and of their outputs back, each step beside the others.

Three streams: chips are copied while the batch before is computed, and outputs are decoded while
the batch after is.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geo_retina.detection.torch_device import computes_in_bfloat16

if TYPE_CHECKING:
    import torch


class CudaPipe:
    """Streams and memory of one CUDA device."""

    def __init__(self, device: "torch.device") -> None:
        import torch

        self._device = device
        self._copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # the many small steps of decoding do not queue behind the next batch's convolutions
        self._decoding = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
        self._wider = [torch.float32]
        if computes_in_bfloat16(device):
            self._wider.append(torch.bfloat16)
        self._precision = torch.float16
        self._held = 0

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in float16, or in what `widen` chose.

        float16 holds three more bits of a number than bfloat16, at the same speed: boxes come out
        some ten times as exact. Its range is smaller; outputs that leave it are not finite.
        """
        import torch

        return torch.autocast("cuda", self._precision, enabled=self._precision is not torch.float32)

    @property
    def can_widen(self) -> bool:
        """Whether there is a type of a wider range than the one that is computed in."""
        return bool(self._wider)

    def widen(self) -> str:
        """Compute in a type of a wider range from here on; its name."""
        self._precision = self._wider.pop()
        return str(self._precision).removeprefix("torch.")

    def send(self, chips: Sequence[NDArray[Any]]) -> "torch.Tensor":
        """Copy (1, bands, H, W) chips of one size to the device, as they are: (N, bands, H, W).

        Each chip is copied once on the host, into pinned memory, from which the device fetches it
        while the host goes on. torch takes pinned memory back when the copy is done.
        """
        import torch

        computing = torch.cuda.current_stream(self._device)
        kind = torch.from_numpy(np.empty(0, chips[0].dtype)).dtype
        pinned = torch.empty((len(chips), *chips[0].shape[1:]), dtype=kind, pin_memory=True)
        np.concatenate(chips, out=pinned.numpy())
        with torch.cuda.stream(self._copying):
            values = pinned.to(self._device, non_blocking=True)
        computing.wait_stream(self._copying)
        values.record_stream(computing)
        return values

    def mark(self) -> "torch.cuda.Event":
        """The moment when all that is computed so far is done."""
        import torch

        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    @contextmanager
    def decoding(
        self, done: "torch.cuda.Event", outputs: Sequence["torch.Tensor"]
    ) -> Iterator[None]:
        """Work on `outputs` once `done` is reached, beside what is being computed."""
        import torch

        with torch.cuda.stream(self._decoding):
            self._decoding.wait_event(done)
            for tensor in outputs:
                tensor.record_stream(self._decoding)
            yield

    def begin_trial(self) -> None:
        """Watch how much memory is taken from here on."""
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)
        self._held = torch.cuda.memory_allocated(self._device)

    def fitting_batch(self, chips: int, *, most: int) -> int:
        """How many chips fit into the device's memory, by what a batch of `chips` took at most.

        Two batches are under way at a time, and a tenth of the memory is left to others.
        """
        import torch

        free, _ = torch.cuda.mem_get_info(self._device)
        free += torch.cuda.memory_reserved(self._device)
        free -= torch.cuda.memory_allocated(self._device)
        taken = torch.cuda.max_memory_allocated(self._device) - self._held
        return max(min(int(0.9 * free / (2 * max(taken, 1) / chips)), most), 1)
