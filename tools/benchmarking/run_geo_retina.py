"""One run of geo_retina, for `benchmark.py` and `benchmark_peers.py`: a job as JSON.

The job names `raster`, `output` and `model`; it may name `backend`, `readers`, `options` (fields of
`DetectOptions`) and `keep` (a JSON file for the boxes; the output must then be a CSV). The model is
loaded before the clock of the work starts, as it is for the peers.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarking.child import keep_boxes, read_job, write_report


def main() -> None:
    """Load, detect to a file, report."""
    job = read_job()
    from geo_retina.detection import file_run
    from geo_retina.detection.options import DetectOptions

    detector = load(job)
    ready = time.monotonic()
    with patch.object(file_run, "load_backend", lambda *_, **__: detector):
        done = file_run.detect_to_files(
            job["raster"],
            [job["output"]],
            model=job["model"],
            options=DetectOptions(**job.get("options", {})),
            work=file_run.WorkOptions(
                restart=True, backend=job.get("backend", "auto"), readers=job.get("readers")
            ),
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


def load(job: dict[str, Any]) -> Any:  # noqa: ANN401  geo_retina is imported late
    """The detector of a job."""
    from geo_retina.detection.backends import load_detector
    from geo_retina.model.checkpoint import read_info

    info = read_info(job["model"])
    return load_detector(info, backend=job.get("backend", "auto"))


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
