"""The forward pass alone, as fast as a plain loop runs it: what the pipeline is compared with."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from geo_retina.model.artifacts import (
    Artifact,
    artifact_path,
    matching_artifacts,
    network_hash,
    read_artifact,
)
from geo_retina.model.checkpoint import CheckpointInfo, load_network

Forward = Callable[[Sequence[NDArray[Any]]], None]


def choose_graph(info: CheckpointInfo, backend: str, folder: Path) -> Artifact | None:
    """The graph of a backend: that beside the checkpoint, or a float32 one exported to `folder`.

    Args:
        info: The checkpoint.
        backend: `torch`, `torch-cuda`, `openvino-fp32` or `openvino-int8`.
        folder: Where exported graphs are kept.

    Returns:
        The graph; None for torch.

    Raises:
        SystemExit: There is no such graph, and it cannot be made without data.
    """
    if backend in ("torch", "torch-cuda"):
        return None
    precision = backend.removeprefix("openvino-")
    beside = {found.precision: found for found in matching_artifacts(info)}
    if precision in beside:
        return beside[precision]
    if precision != "fp32":
        raise SystemExit(f"no {precision} graph lies beside {info.path}; see `geo-retina export`")
    path = artifact_path(info.path, "fp32", folder=folder)
    if not path.exists() or read_artifact(path).network_hash != network_hash(info):
        from geo_retina.model.export import export_openvino, write_openvino

        write_openvino(export_openvino(info), Artifact(path, "fp32", network_hash(info)))
    return read_artifact(path)


def bare_forward(info: CheckpointInfo, graph: Artifact | None, *, threads: int) -> Forward:
    """A function that runs chips (bands, H, W) one by one and drops the outputs."""
    return _torch(info, threads) if graph is None else _openvino(graph)


def bare_forward_on_gpu(info: CheckpointInfo, batch: int) -> Forward:
    """A function that runs chips (bands, H, W) of one size on a GPU, and waits at the end.

    In float16, as detection does; each batch is copied from pinned memory while the one before it
    is computed.
    """
    import numpy as np
    import torch

    from geo_retina.model.retinanet import band_scale

    card, device = info.card, torch.device("cuda")
    network = load_network(info).to(device).to(memory_format=torch.channels_last)
    centre, spread = band_scale(
        value_range=card.value_range, mean=card.mean, std=card.std, device=device
    )
    copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def forward(chips: Sequence[NDArray[Any]]) -> None:
        computing = torch.cuda.current_stream(device)
        with torch.inference_mode(), torch.autocast("cuda", torch.float16):
            for first in range(0, len(chips), batch):
                pinned = torch.from_numpy(np.stack(chips[first : first + batch])).pin_memory()
                with torch.cuda.stream(copying):
                    pixels = pinned.to(device, non_blocking=True)
                computing.wait_stream(copying)
                pixels.record_stream(computing)
                images = (pixels.float() - centre) / spread
                network(images.contiguous(memory_format=torch.channels_last))
        torch.cuda.synchronize(device)

    return forward


def _openvino(graph: Artifact) -> Forward:
    import openvino as ov

    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(str(graph.path), "CPU", settings)

    def forward(chips: Sequence[NDArray[Any]]) -> None:
        queue = ov.AsyncInferQueue(compiled)
        for chip in chips:
            queue.start_async([chip[None]], share_inputs=True)
        queue.wait_all()

    return forward


def _torch(info: CheckpointInfo, threads: int) -> Forward:
    import torch

    from geo_retina.model.retinanet import normalise

    torch.set_num_threads(threads)
    card = info.card
    network = load_network(info).to(memory_format=torch.channels_last)

    def forward(chips: Sequence[NDArray[Any]]) -> None:
        with torch.inference_mode():
            for chip in chips:
                images = normalise(
                    torch.from_numpy(chip[None]),
                    value_range=card.value_range,
                    mean=card.mean,
                    std=card.std,
                )
                network(images.contiguous(memory_format=torch.channels_last))

    return forward
