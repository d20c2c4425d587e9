"""SAHI's NMS, served to `benchmark_nms.py` from SAHI's environment: one JSON request a line.

A request names files of `boxes` (N, 4) and `scores` (N,), the `threshold`, and where to put the
positions `kept`. The answer tells the `seconds` of the call alone. The process may take as many GiB
as its argument says, and ends where it needs more.
"""

import importlib
import json
import resource
import sys
import time

import numpy as np


def main() -> None:
    """Answer requests until there are no more."""
    most = int(float(sys.argv[1]) * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    nms = importlib.import_module("sahi.postprocess.combine").nms
    for line in sys.stdin:
        request = json.loads(line)
        boxes, scores = np.load(request["boxes"]), np.load(request["scores"])
        table = np.column_stack([boxes, scores, np.zeros(len(scores))])
        started = time.perf_counter()
        kept = nms(table, match_metric="IOU", match_threshold=request["threshold"])
        seconds = time.perf_counter() - started
        np.save(request["kept"], np.asarray(kept, np.int64))
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
