"""One run of geo_retina, for `benchmark.py` and `benchmark_peers.py`: a job as JSON.

The job names `raster`, `output` and `model`; it may name `backend`, `readers`, `options` (fields of
`DetectOptions`) and `keep` (a JSON file for the boxes; the output must then be a CSV). The model is
loaded before the clock of the work starts, as it is for the peers.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarking.child import keep_boxes, read_job, write_report


def main() -> None:
    """Load, detect to a file, report."""
    job = read_job()
    from geo_retina import DetectOptions, WorkOptions, detect_to_files, load_model

    model = load_model(job["model"], backend=job.get("backend", "auto"))
    ready = time.monotonic()
    done = detect_to_files(
        job["raster"],
        [job["output"]],
        model=model,
        options=DetectOptions(**job.get("options", {})),
        work=WorkOptions(restart=True, readers=job.get("readers")),
    )
    finished = time.monotonic()
    if job.get("keep"):
        keep_boxes(job, boxes_of(Path(job["output"]), Path(job["raster"])))
    counts = done.counts
    write_report(
        ready=ready,
        done=finished,
        objects=counts.objects,
        windows=done.windows,
    )


def boxes_of(output: Path, raster: Path) -> list[tuple[Sequence[float], float]]:
    """Boxes in pixels of the raster, from the polygons of a CSV file, and scores."""
    import pandas as pd
    import rasterio
    import shapely

    table = pd.read_csv(output)
    bounds = shapely.bounds(shapely.from_wkt(table["WKT"].to_numpy()))
    with rasterio.open(raster) as file:
        to_pixels = ~file.transform
    left, top = to_pixels * (bounds[:, 0], bounds[:, 3])
    right, bottom = to_pixels * (bounds[:, 2], bounds[:, 1])
    boxes = zip(left, top, right, bottom, strict=True)
    return list(zip(boxes, table["score"], strict=True))


if __name__ == "__main__":
    main()
