"""Time geo_retina beside DeepForest and SAHI on the same raster.

    python tools/benchmark_peers.py install ENVS
    python tools/benchmark_peers.py same-network ENVS --raster mosaic.tif
    python tools/benchmark_peers.py defaults ENVS --raster mosaic.tif

`install` makes one environment for each in the folder ENVS with uv, from PyPI, with the torch that
is installed here, and one to export graphs with. About 6 GB.

`same-network` gives all of them one RetinaNet with ResNet-50: the same seeded random weights, the
same chips without resizing, the same overlap, thresholds and limits. It also tells how far the
boxes that they find agree away from the seams. geo_retina runs it on torch, and exported to
OpenVINO in float32 and int8.

`defaults` lets each work as it comes: geo_retina with the bundled tree-crowns; DeepForest with its
own chips, overlap and thresholds, but with the random weights, as its own are on a hub; SAHI with
the same network and what it chooses for the raster. SAHI's environment has numba, which makes its
merging faster and which it takes where it is there.

Every run is a process of its own, from a GeoTIFF on the disk to a file on the disk. They take
turns, so that a slow spell of the machine hits all. Make a raster with `tools/benchmark.py raster`:
for `same-network` an edge of the chip plus a multiple of the chip less the overlap is a fair one,
such as 1520 = 800 + 720.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarking.agreement import agreement, read_boxes
from benchmarking.measuring import (
    TOOLS,
    ChildRun,
    circumstances,
    run_undisturbed,
    store,
    summary,
    versions,
)
from find_uv import find_uv

DEEPFOREST, SAHI = "2.1.0", "0.12.8"
OURS = "geo_retina"
PACKAGES = ("geo-retina", "deepforest", "sahi", "torch", "torchvision", "openvino", "numba")
CALIBRATION_CHIPS = 12

Jobs = dict[str, tuple[Path, str, dict[str, Any]]]
"""For each contender its interpreter, its program in `benchmarking` and its job."""


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, dest="command")
    setup = commands.add_parser("install", help="make the environments")
    setup.add_argument("envs", type=Path)
    for name, text in (("same-network", "one network in all"), ("defaults", "each as it comes")):
        command = commands.add_parser(name, help=text)
        command.add_argument("envs", type=Path)
        command.add_argument("--raster", type=Path, required=True)
        command.add_argument("--repeats", type=int, default=5)
        command.add_argument("--threads", type=int, default=os.cpu_count() or 1)
        command.add_argument("--chip", type=int, default=800, help="edge of the same chips, px")
        command.add_argument("--overlap", type=float, default=0.1, help="of them, a share")
        command.add_argument("--share", type=float, default=2e-3, help="of anchors above the score")
        command.add_argument("--seed", type=int, default=0, help="of the random weights")
        command.add_argument("--only", nargs="+", help="contenders, by their names' beginnings")
        command.add_argument("--json", type=Path, help="file of results to put the numbers into")
    asked = parser.parse_args()
    if asked.command == "install":
        install(asked.envs)
    else:
        compare(asked)


def install(envs: Path) -> None:
    """Make the environments that are not there yet."""
    uv = find_uv()
    if uv is None:
        sys.exit("uv makes the environments, and is not there; get it with: pip install uv")
    envs.mkdir(parents=True, exist_ok=True)
    here = versions(("torch", "torchvision"))
    torch = [f"{package}=={number}" for package, number in here.items()]
    wanted = {
        "deepforest": [f"deepforest=={DEEPFOREST}", *torch],
        "sahi": [f"sahi=={SAHI}", "numba", *torch],
        "export": ["--editable", str(TOOLS.parent), "onnx", "onnxscript", "nncf"],
    }
    for name, packages in wanted.items():
        python = interpreter(envs, name)
        if not python.exists():
            subprocess.run([uv, "venv", "--python", sys.executable, envs / name], check=True)
        subprocess.run([uv, "pip", "install", "--python", python, *packages], check=True)


def interpreter(envs: Path, name: str) -> Path:
    """Python of one of the environments."""
    return envs.absolute() / name / "bin" / "python"


def compare(asked: argparse.Namespace) -> None:
    """Prepare the network, run all in turn, and store what came out."""
    import rasterio

    from geo_retina.space.windows import WindowPlan

    with rasterio.open(asked.raster) as file:
        width, height, gsd = file.width, file.height, file.transform.a
    overlap_px = int(asked.overlap * asked.chip)
    folder = prepare(asked, overlap_px=overlap_px, gsd_m=gsd)
    same = asked.command == "same-network"
    jobs = same_network_jobs(asked, folder) if same else default_jobs(asked, folder)
    if asked.only:
        jobs = {name: job for name, job in jobs.items() if name.startswith(tuple(asked.only))}
    runs = interleave(jobs, repeats=asked.repeats, threads=asked.threads)
    megapixels = width * height / 1e6
    plan = WindowPlan(width, height, asked.chip, overlap_px)
    results: dict[str, Any] = {
        **circumstances(PACKAGES, threads=asked.threads),
        "peers": {name: peer_versions(asked.envs, name) for name in ("deepforest", "sahi")},
        "raster": {"width": width, "height": height, "megapixels": round(megapixels, 2)},
        "runs": {name: summary(times, megapixels=megapixels) for name, times in runs.items()},
    }
    if same:
        results |= {"chip_px": asked.chip, "overlap_px": overlap_px, "chips": len(plan)}
        results["agreement"] = agreements(jobs, plan)
    store(asked.json, "same_network" if same else "defaults", results)


def prepare(asked: argparse.Namespace, *, overlap_px: int, gsd_m: float) -> Path:
    """Make weights, checkpoint and graphs of the network, where they are not there yet."""
    import torch
    from benchmarking.same_network import make_weights, read_chips, write_checkpoint

    file = asked.raster.stat()
    which = f"{asked.raster.stem}-{file.st_size}-{file.st_mtime_ns}"
    name = f"{which}-{asked.chip}-{asked.share:g}-{asked.seed}"
    folder: Path = asked.envs.absolute() / "networks" / name
    checkpoint = folder / "resnet50.safetensors"
    if checkpoint.with_suffix(".openvino-int8.xml").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    chips = read_chips(asked.raster, chip_px=asked.chip, count=2)
    state = make_weights(chips, share=asked.share, seed=asked.seed)
    torch.save(state, folder / "weights.pth")
    write_checkpoint(checkpoint, state, chip_px=asked.chip, overlap_px=overlap_px, gsd_m=gsd_m)
    export = interpreter(asked.envs, "export").with_name("geo-retina")
    targets = ["--to", "openvino-fp32", "--to", "openvino-int8"]
    calibration = ["--calibrate", asked.raster.absolute(), "--chips", str(CALIBRATION_CHIPS)]
    subprocess.run([export, "export", checkpoint, *targets, *calibration], check=True)
    return folder


def same_network_jobs(asked: argparse.Namespace, folder: Path) -> Jobs:
    """The network of `prepare` in each of them."""
    from benchmarking.same_network import SCORE

    from geo_retina.detection.openvino_runtime import has_bfloat16

    told = {"chip_px": asked.chip, "overlap": asked.overlap, "score": SCORE, "nms_iou": 0.5}
    checkpoint = folder / "resnet50.safetensors"
    windows = {"chip_px": asked.chip, "overlap_px": int(asked.overlap * asked.chip)}
    ours = {"model": str(checkpoint), "options": windows}
    precisions = ("fp32", "bf16", "int8") if has_bfloat16() else ("fp32", "int8")
    backends = {"torch": "torch"} | {
        f"OpenVINO {precision}": f"openvino-{precision}" for precision in precisions
    }
    python = Path(sys.executable)
    jobs: Jobs = {
        f"{OURS}, {name}": (
            python,
            "run_geo_retina",
            _job(asked, folder, name, "csv") | ours | {"backend": backend},
        )
        for name, backend in backends.items()
    }
    return jobs | {
        name: (python, module, job | told)
        for name, (python, module, job) in _peers(asked, folder).items()
    }


def default_jobs(asked: argparse.Namespace, folder: Path) -> Jobs:
    """Each as it comes; the network of `prepare` only where weights cannot be had."""
    ours = _job(asked, folder, "tree-crowns", "gpkg") | {"model": "tree-crowns"}
    ours["keep"] = None
    return {f"{OURS}, tree-crowns": (Path(sys.executable), "run_geo_retina", ours)} | _peers(
        asked, folder
    )


def _peers(asked: argparse.Namespace, folder: Path) -> Jobs:
    weights = {"weights": str(folder / "weights.pth")}
    kinds = {"DeepForest": ("deepforest", "gpkg"), "SAHI": ("sahi", "json")}
    return {
        name: (
            interpreter(asked.envs, env),
            f"run_{env}",
            _job(asked, folder, env, extension) | weights,
        )
        for name, (env, extension) in kinds.items()
    }


def _job(asked: argparse.Namespace, folder: Path, name: str, extension: str) -> dict[str, Any]:
    stem = name.lower().replace(" ", "-")
    return {
        "raster": str(asked.raster.absolute()),
        "output": str(folder / f"{asked.command}-{stem}.{extension}"),
        "keep": str(folder / f"{asked.command}-{stem}.boxes.json"),
    }


def interleave(jobs: Jobs, *, repeats: int, threads: int) -> dict[str, list[ChildRun]]:
    """Run all jobs in turn, as often as asked; tell each on stderr."""
    runs: dict[str, list[ChildRun]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, (python, module, job) in jobs.items():
            run = run_undisturbed(python, module, job, threads=threads)
            runs[name].append(run)
            print(
                f"{name}: start-up {run.start_up_s:.1f} s, work {run.work_s:.1f} s, "
                f"{run.peak_mib:.0f} MiB, {run.report['objects']} objects, others "
                f"{100 * run.others:.0f} %",
                file=sys.stderr,
                flush=True,
            )
    return runs


def agreements(jobs: Jobs, plan: Any) -> dict[str, dict[str, float]]:  # noqa: ANN401  a WindowPlan
    """How the boxes of each agree with those of the first of them."""
    (_, first), *others = [(name, job["keep"]) for name, (_, _, job) in jobs.items()]
    ours = read_boxes(Path(first))
    return {name: agreement(ours, read_boxes(Path(kept)), plan) for name, kept in others}


def peer_versions(envs: Path, name: str) -> Mapping[str, str]:
    """Versions of the packages in one of the environments."""
    code = (
        "import json; from benchmarking.measuring import versions; "
        f"print(json.dumps(versions({PACKAGES!r})))"
    )
    done = subprocess.run(
        [interpreter(envs, name), "-c", code],
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        check=True,
        capture_output=True,
        text=True,
    )
    found: Mapping[str, str] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
