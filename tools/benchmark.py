"""Measure geo_retina: where the time goes, how it grows with the raster, and training steps.

    python tools/benchmark.py raster --mpix 16 --out mosaic.tif
    python tools/benchmark.py stages --raster mosaic.tif --backends openvino-int8 --folder FOLDER
    python tools/benchmark.py growth --mpix 10 30 100 --folder FOLDER
    python tools/benchmark.py slow --raster mosaic.tif --readers 1 4 --folder FOLDER
    python tools/benchmark.py train --batch 2 --chip 320
    python tools/benchmark.py start --raster examples/niwot_ridge.tif --folder FOLDER

Everything runs on the CPU, but for `stages` with the backend `torch-cuda`, which also tells in
which share of the time the GPU was busy.

`raster` makes a mosaic of `examples/niwot_ridge.tif`, or of the plots given, mirrored: a tiled,
deflate-compressed GeoTIFF. `stages` times each part of detection alone, and the whole of it in turn
with the bare forward pass on the same chips. `growth` makes rasters and runs each in a process of
its own, with its peak memory. `slow` reads the same raster from the disk and from a server that
answers late, with several numbers of readers. `start` times the command `geo-retina detect` from
process start to file on disk. `train` compares a training step with torchvision's RetinaNet of the
same architecture and weights. With `--json FILE` the numbers go into a file of results.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarking.measuring import (
    THREAD_VARIABLES,
    TOOLS,
    circumstances,
    cores,
    run_undisturbed,
    spread,
    store,
    summary,
)
from benchmarking.slow_source import slow_source

from geo_retina import defaults

EXAMPLE = TOOLS.parent / "examples" / "niwot_ridge.tif"
PACKAGES = ("geo-retina", "openvino", "torch", "torchvision", "rasterio", "numpy")


def main() -> None:
    """Run what the command line asks for."""
    asked = parse()
    asked.run(asked)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    shared.add_argument("--repeats", type=int, default=5)
    shared.add_argument("--json", type=Path, help="file of results to put the numbers into")

    command = commands.add_parser("raster", help="make a raster to measure with")
    command.add_argument("--mpix", type=float, required=True)
    command.add_argument("--tiles", type=Path, nargs="+", default=[EXAMPLE], help="or folders")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=make_raster)

    command = commands.add_parser("stages", parents=[shared], help="each part of detection")
    command.add_argument("--raster", type=Path, required=True)
    command.add_argument("--model", default=defaults.MODEL)
    command.add_argument(
        "--backends", nargs="+", default=["openvino-int8"], help="torch-cuda runs on a GPU"
    )
    command.add_argument("--folder", type=Path, required=True, help="for outputs and graphs")
    command.set_defaults(run=measure_stages)

    command = commands.add_parser("growth", parents=[shared], help="from small to large rasters")
    command.add_argument("--mpix", type=float, nargs="+", default=[10, 30, 100])
    command.add_argument("--tiles", type=Path, nargs="+", default=[EXAMPLE], help="or folders")
    command.add_argument("--model", default=defaults.MODEL)
    command.add_argument("--backend", default="auto")
    command.add_argument("--folder", type=Path, required=True, help="for rasters and outputs")
    command.set_defaults(run=measure_growth)

    command = commands.add_parser("slow", parents=[shared], help="a raster behind a slow line")
    command.add_argument("--raster", type=Path, required=True)
    command.add_argument("--model", default=defaults.MODEL)
    command.add_argument("--readers", type=int, nargs="+", default=[1, 2, 4, 8])
    command.add_argument("--latency-ms", type=float, default=30)
    command.add_argument("--mb-per-s", type=float, default=20)
    command.add_argument("--folder", type=Path, required=True, help="for outputs")
    command.set_defaults(run=measure_slow)

    command = commands.add_parser("start", parents=[shared], help="the command on one small plot")
    command.add_argument("--raster", type=Path, default=EXAMPLE)
    command.add_argument("--folder", type=Path, required=True, help="for outputs")
    command.set_defaults(run=measure_start)

    command = commands.add_parser("train", parents=[shared], help="a step beside torchvision's")
    command.add_argument("--batch", type=int, default=2)
    command.add_argument("--chip", type=int, default=320)
    command.add_argument("--objects", type=int, default=60, help="labelled objects in a chip")
    command.add_argument("--steps", type=int, default=4, help="of each run, after a warm one")
    command.set_defaults(run=measure_training)
    return parser.parse_args()


def make_raster(asked: argparse.Namespace) -> None:
    """Write a square mosaic."""
    from benchmarking.mosaic import find_plots, write_mosaic

    edge = round((asked.mpix * 1e6) ** 0.5)
    write_mosaic(asked.out, find_plots(asked.tiles), width=edge, height=edge)
    print(f"{asked.out}: {edge} x {edge} px, {asked.out.stat().st_size / 2**20:.0f} MiB")


def measure_stages(asked: argparse.Namespace) -> None:
    """Time the stages in a process of their own for each backend."""
    asked.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for backend in asked.backends:
        job = {
            "raster": str(asked.raster.absolute()),
            "model": asked.model,
            "backend": backend,
            "folder": str(asked.folder.absolute()),
            "repeats": asked.repeats,
        }
        run = run_undisturbed(sys.executable, "run_stages", job, threads=asked.threads)
        found[backend] = run.report["found"]
        print(f"{backend}: done", file=sys.stderr, flush=True)
    name = "backends" if len(found) > 1 else "stages"
    described = circumstances(PACKAGES, threads=asked.threads)
    store(asked.json, name, {**described, "backends": found})


def measure_growth(asked: argparse.Namespace) -> None:
    """Run rasters of rising size in turn."""
    from benchmarking.mosaic import find_plots, write_mosaic

    asked.folder.mkdir(parents=True, exist_ok=True)
    plots = find_plots(asked.tiles)
    plots_key = hashlib.sha256(b"".join(plot.read_bytes() for plot in plots)).hexdigest()[:8]
    jobs: dict[float, dict[str, Any]] = {}
    for mpix in sorted(asked.mpix):
        raster = asked.folder / f"{mpix:g}-mpix-of-{plots_key}.tif"
        edge = round((mpix * 1e6) ** 0.5)
        if not raster.exists():
            begun = raster.with_suffix(".part.tif")
            write_mosaic(begun, plots, width=edge, height=edge)
            begun.replace(raster)
        output = raster.with_suffix(".fgb")
        jobs[edge**2 / 1e6] = {
            "raster": str(raster),
            "output": str(output),
            "model": asked.model,
            "backend": asked.backend,
        }
    runs: dict[float, list[Any]] = {size: [] for size in jobs}
    for _ in range(asked.repeats):
        for size, job in jobs.items():
            run = run_undisturbed(sys.executable, "run_geo_retina", job, threads=asked.threads)
            runs[size].append(run)
            print(
                f"{size:.0f} Mpix: {run.work_s:.1f} s, {size / run.work_s:.2f} Mpix/s, "
                f"{run.peak_mib:.0f} MiB",
                file=sys.stderr,
                flush=True,
            )
    rows = [
        {"megapixels": round(size, 1), "windows": times[-1].report["windows"]}
        | summary(times, megapixels=size)
        for size, times in runs.items()
    ]
    # a large raster is measured less often, in a call of its own
    name = "growth" if len(rows) > 1 else f"growth-{rows[0]['megapixels']:.0f}"
    store(asked.json, name, {**circumstances(PACKAGES, threads=asked.threads), "rows": rows})


def measure_slow(asked: argparse.Namespace) -> None:
    """Read from the disk and over the line in turn."""
    import rasterio

    asked.folder.mkdir(parents=True, exist_ok=True)
    with rasterio.open(asked.raster) as file:
        megapixels = file.width * file.height / 1e6
    output = asked.folder / f"{asked.raster.stem}.fgb"
    job = {"output": str(output), "model": asked.model}
    line = {"latency_s": asked.latency_ms / 1e3, "mb_per_s": asked.mb_per_s}
    numbers = [*asked.readers, None]
    runs: dict[tuple[str, int | None], list[Any]] = {
        (source, readers): [] for source in ("disk", "line") for readers in numbers
    }
    with slow_source(asked.raster, **line) as url:
        places = {"disk": str(asked.raster), "line": url}
        for _ in range(asked.repeats):
            for (source, readers), times in runs.items():
                this = {**job, "raster": places[source], "readers": readers}
                run = run_undisturbed(sys.executable, "run_geo_retina", this, threads=asked.threads)
                times.append(run)
                told = f"{source}, {readers or 'default'} readers: {run.work_s:.1f} s"
                print(told, file=sys.stderr, flush=True)
    rows = [
        {"source": source, "readers": readers, **summary(times, megapixels=megapixels)}
        for (source, readers), times in runs.items()
    ]
    described = circumstances(PACKAGES, threads=asked.threads)
    store(asked.json, "slow", {**described, **line, "megapixels": megapixels, "rows": rows})


def measure_start(asked: argparse.Namespace) -> None:
    """Time `geo-retina detect` on a small raster, but for a first run, which fills caches."""
    asked.folder.mkdir(parents=True, exist_ok=True)
    output = asked.folder / f"{asked.raster.stem}.gpkg"
    program = Path(sys.executable).with_name("geo-retina")
    command = [program, "detect", asked.raster, "-o", output, "--restart", "--quiet"]
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(asked.threads))}
    seconds = []
    for _ in range(asked.repeats + 1):
        output.unlink(missing_ok=True)
        started = time.monotonic()
        with cores(asked.threads):
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        seconds.append(time.monotonic() - started)
    described = circumstances(PACKAGES, threads=asked.threads)
    found = {**described, "raster": asked.raster.name, "seconds": spread(seconds[1:])}
    store(asked.json, "start", found)


def measure_training(asked: argparse.Namespace) -> None:
    """Run steps of all contenders in turn, each in a process of its own."""
    from benchmarking.run_training import CONTENDERS

    job = {
        "batch": asked.batch,
        "chip": asked.chip,
        "objects": asked.objects,
        "steps": asked.steps,
    }
    runs: list[list[Any]] = [[] for _ in CONTENDERS]
    for _ in range(asked.repeats):
        for number, (contender, times) in enumerate(zip(CONTENDERS, runs, strict=True)):
            run = run_undisturbed(
                sys.executable, "run_training", {**job, "contender": number}, threads=asked.threads
            )
            times.append(run)
            rate = f"{run.report['images_per_s']:.3f} images/s"
            print(f"{contender.network}, {contender.name}: {rate}", file=sys.stderr, flush=True)
    found = [
        {
            "network": contender.network,
            "name": contender.name,
            "images_per_s": spread([run.report["images_per_s"] for run in times]),
            "peak_mib": spread([run.peak_mib for run in times]),
            "loss": times[0].report["loss"],
        }
        for contender, times in zip(CONTENDERS, runs, strict=True)
    ]
    described = circumstances(PACKAGES, threads=asked.threads)
    store(asked.json, "training", {**described, **job, "contenders": found})


if __name__ == "__main__":
    main()
