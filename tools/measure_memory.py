"""Measure the peak memory of detection runs on rasters of 0.1 to 10 gigapixels.

    python tools/measure_memory.py --gigapixels 0.1 1 10 --folder /tmp/memory
    python tools/measure_memory.py --raster orthophoto.tif --model tree-crowns --folder /tmp/memory

The first form makes VRTs out of one small GeoTIFF and runs the whole pipeline on them, ledger and
vector file included, with a stub in the network's place: it finds a field of objects 40 px apart
(625 on a megapixel) by marks in the pixels, so that every object must be found once and only once,
which is checked. The second form runs a real model on a real raster.

Each run is a process of its own; its peak resident size is what the kernel says at its end.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from geo_retina import defaults

TILE_PX = 2000
SPACING_PX = 40
OBJECTS_PER_TILE = (TILE_PX // SPACING_PX) ** 2
MARK = 255
CRS = "EPSG:32633"
GSD_M = 0.1


def main() -> None:
    """Measure what the command line asks for, one line of JSON a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gigapixels", type=float, nargs="+", default=[])
    parser.add_argument("--raster", help="measure a real run on this raster")
    parser.add_argument("--model", default=defaults.MODEL, help="for --raster")
    parser.add_argument("--folder", type=Path, required=True, help="where to write")
    parser.add_argument("--extension", default="fgb", help="format of the output")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        print(json.dumps(run_once(*asked.run)))
        return
    asked.folder.mkdir(parents=True, exist_ok=True)
    for gigapixels in asked.gigapixels:
        raster = write_raster(asked.folder, gigapixels)
        print(json.dumps(measure(raster, "stub", asked.extension)), flush=True)
    if asked.raster:
        raster = Path(asked.raster)
        output = asked.folder / raster.name
        print(json.dumps(measure(raster, asked.model, asked.extension, output)), flush=True)


def measure(raster: Path, model: str, extension: str, output: Path | None = None) -> dict[str, Any]:
    """Run once in a process of its own: what it did, its peak memory (MiB), its times (s)."""
    output = (output or raster).with_suffix(f".{extension}")
    started = time.monotonic()
    command = [sys.executable, __file__, "--folder", str(raster.parent)]
    with subprocess.Popen(
        [*command, "--run", str(raster), str(output), model], stdout=subprocess.PIPE, text=True
    ) as process:
        text = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"the run on {raster} ended with code {process.returncode}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        **json.loads(text),
        "peak_mib": round(peak / 2**20),
        "wall_s": round(time.monotonic() - started, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "output_mib": round(output.stat().st_size / 2**20, 1),
    }


def run_once(raster: str, output: str, model: str) -> dict[str, Any]:
    """Detect in this process; with the model `stub`, check that every object was found."""
    from geo_retina.detection.file_run import detect_to_files
    from geo_retina.detection.options import WorkOptions

    work = WorkOptions(restart=True)
    if model != "stub":
        done = detect_to_files(raster, [output], model=model, work=work)
    else:
        info = _stub_info(Path(raster))
        detector = MarkDetector(info.card)
        with (
            patch("geo_retina.detection.job.read_info", lambda _model: info),
            patch("geo_retina.detection.backends.load_backend", lambda *_, **__: detector),
        ):
            done = detect_to_files(raster, [output], work=work)
        expected = round(done.megapixels * 1e6 / TILE_PX**2) * OBJECTS_PER_TILE
        if done.counts.objects != expected:
            raise SystemExit(f"expected {expected} objects, found {done.counts.objects}")
    return {
        "raster": Path(raster).name,
        "gigapixels": round(done.megapixels / 1000, 4),
        "windows": done.windows,
        "candidates": done.counts.candidates,
        "objects": done.counts.objects,
        "seams": done.seams["totals"],
    }


class MarkDetector:
    """Finds a box around each marked pixel: band 2 holds its side, band 3 its score."""

    batch = 4

    def __init__(self, card: Any) -> None:  # noqa: ANN401  geo_retina is imported by runs alone
        self.card = card

    def detect(self, pixels: NDArray[np.uint8], thresholds: Any) -> list[Any]:  # noqa: ANN401
        """Boxes of each chip; they may reach out of it."""
        from geo_retina.detection.detector import ChipResult
        from geo_retina.space.detections import Detections

        results = []
        for chip in pixels:
            rows, cols = np.nonzero(chip[0] == MARK)
            half = chip[1, rows, cols] / 2
            boxes = np.stack([cols - half, rows - half, cols + half, rows + half], axis=1)
            scores = chip[2, rows, cols] / 255
            saturated = len(boxes) > thresholds.detections_per_chip
            results.append(
                ChipResult(Detections.of(boxes, scores, np.zeros(len(boxes))), saturated)
            )
        return results


def write_raster(folder: Path, gigapixels: float) -> Path:
    """A square VRT of about that size, made of one tile over and over."""
    tile = folder / "tile.tif"
    if not tile.exists():
        write_tile(tile)
    count = max(round((gigapixels * 1e9) ** 0.5 / TILE_PX), 1)
    bands = "".join(_vrt_band(band, tile.name, count) for band in (1, 2, 3))
    path = folder / f"{gigapixels:g}-gigapixels.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="{count * TILE_PX}" rasterYSize="{count * TILE_PX}">'
        f"<SRS>{CRS}</SRS><GeoTransform>500000,{GSD_M},0,5400000,0,-{GSD_M}</GeoTransform>"
        f"{bands}</VRTDataset>"
    )
    return path


def write_tile(path: Path) -> None:
    """A GeoTIFF of 4 megapixels with a mark for each object, jittered around a lattice."""
    import rasterio
    from affine import Affine

    random = np.random.default_rng(5)
    pixels = random.integers(0, MARK, (3, TILE_PX, TILE_PX), dtype=np.uint8)
    lattice = np.arange(SPACING_PX // 2, TILE_PX, SPACING_PX)
    rows, cols = (axis.ravel() for axis in np.meshgrid(lattice, lattice, indexing="ij"))
    rows = rows + random.integers(-4, 5, len(rows))
    cols = cols + random.integers(-4, 5, len(cols))
    pixels[0, rows, cols] = MARK
    pixels[1, rows, cols] = random.integers(16, 37, len(rows))
    pixels[2, rows, cols] = random.integers(128, MARK, len(rows))
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=3,
        width=TILE_PX,
        height=TILE_PX,
        dtype="uint8",
        crs=CRS,
        transform=Affine(GSD_M, 0, 500_000, 0, -GSD_M, 5_400_000),
        tiled=True,
        compress="deflate",
    ) as file:
        file.write(pixels)


def _vrt_band(band: int, tile: str, count: int) -> str:
    colour = ("Red", "Green", "Blue")[band - 1]
    size = f'xSize="{TILE_PX}" ySize="{TILE_PX}"'
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{tile}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SourceProperties RasterXSize="{TILE_PX}" RasterYSize="{TILE_PX}" DataType="Byte" '
        'BlockXSize="256" BlockYSize="256"/>'
        f'<SrcRect xOff="0" yOff="0" {size}/>'
        f'<DstRect xOff="{col * TILE_PX}" yOff="{row * TILE_PX}" {size}/></SimpleSource>'
        for row in range(count)
        for col in range(count)
    )
    return (
        f'<VRTRasterBand dataType="Byte" band="{band}"><ColorInterp>{colour}</ColorInterp>'
        f"{sources}</VRTRasterBand>"
    )


def _stub_info(raster: Path) -> Any:  # noqa: ANN401  geo_retina is imported by runs alone
    """What stands for a checkpoint: a card as of a real model, and a file to take the hash of."""
    from geo_retina.card import ModelCard
    from geo_retina.model.checkpoint import CheckpointInfo
    from geo_retina.model.settings import NetworkSettings

    card = ModelCard(
        name="stub",
        summary="Finds marked pixels.",
        licence="CC0-1.0",
        class_names=("object",),
        bands=("red", "green", "blue"),
        dtype="uint8",
        value_range=(0, 255),
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        gsd_m=GSD_M,
        coarsest_gsd_m=0.3,
        chip_px=640,
        overlap_px=64,
        score=0.3,
        nms_iou=0.5,
        candidates_per_level=5000,
        detections_per_chip=2000,
    )
    weights = raster.with_name("stub.safetensors")
    weights.write_text("stands for weights\n")
    return CheckpointInfo(weights, card, NetworkSettings(num_classes=1))


if __name__ == "__main__":
    main()
