"""Stitch the detections of overlapping windows into those of the raster, strip by strip.

The result is that of one merging over all windows' detections at once (promise 1 of the design).
After each strip, those that nothing unread can change are handed on, and only the undecided ones
are carried: memory depends on the width of the raster and the size of its objects, not on its area.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geo_retina.detection.seams import SeamAudit, SeamEvent
from geo_retina.space.boxes import Overlap
from geo_retina.space.detections import Detections
from geo_retina.space.links import pairs_within
from geo_retina.space.merging import Merging
from geo_retina.space.windows import CUT_MARGIN_PX, Window, WindowPlan

SUSPECT_IOS = 0.5
"""Two reported boxes of one class and different windows that overlap by more than this part of the
smaller one are suspected to be one object."""


@dataclass(frozen=True, slots=True, eq=False)
class StitchState:
    """What a stitcher knows between two strips; a new one goes on from it as if never stopped."""

    next_strip: int
    """First strip that is not done."""
    carried: Detections
    """Detections that unread ones may still change."""
    watched: Detections
    """Final detections that overlap carried ones of other windows: kept for the audit only."""
    audit: SeamAudit

    @classmethod
    def start(cls, plan: WindowPlan) -> Self:
        """Before the first strip."""
        return cls(0, Detections.empty(), Detections.empty(), SeamAudit.empty(plan))

    @classmethod
    def restore(cls, carried: Detections, notes: Mapping[str, Any], audit: SeamAudit) -> Self:
        """Read back `carried` and what `notes` gave; `audit` is the sum of those of all strips."""
        watched = {name: np.array(values) for name, values in notes["watched"].items()}
        return cls(
            notes["next_strip"],
            carried,
            Detections(
                watched["boxes"].astype(np.float64).reshape(-1, 4),
                watched["scores"].astype(np.float32),
                watched["class_ids"].astype(np.int64),
                watched["window_ids"].astype(np.int64),
            ),
            audit,
        )

    def notes(self, *, since: SeamAudit) -> dict[str, Any]:
        """All but `carried` as plain data, for JSON; numbers come back exactly.

        Args:
            since: Tell of the seams only what happened after this.
        """
        return {
            "next_strip": self.next_strip,
            "watched": {name: values.tolist() for name, values in asdict(self.watched).items()},
            "audit": self.audit.changes(since),
        }


class Stitcher:
    """Merges what windows found, strip after strip, and keeps count of what happens at the seams.

    All boxes are in the pixel frame of the plan. Where that is not the raster's, scale what comes
    out.
    """

    def __init__(
        self,
        plan: WindowPlan,
        *,
        merging: Merging,
        margin_px: float = CUT_MARGIN_PX,
        state: StitchState | None = None,
    ) -> None:
        """Start before the first strip, or go on from `state`.

        Args:
            plan: The windows.
            merging: How several detections of one object become one.
            margin_px: See `WindowPlan.cut_and_seen_whole_by_neighbour`.
            state: State of an earlier stitcher with the same plan, merging and margin.
        """
        self._plan = plan
        self._merging = merging
        self._margin_px = margin_px
        self._state = StitchState.start(plan) if state is None else state

    @property
    def state(self) -> StitchState:
        """All that is needed to go on."""
        return self._state

    @property
    def carried(self) -> Detections:
        """Detections that unread ones may still change."""
        return self._state.carried

    @property
    def audit(self) -> SeamAudit:
        """What happened at the seams so far."""
        return self._state.audit

    def add_strip(self, index: int, candidates: Iterable[tuple[Window, Detections]]) -> Detections:
        """Take the detections of one strip, or of several up to this one.

        Args:
            index: The last strip that is now done. Strips left out are taken to be empty.
            candidates: Windows of the strips that were not done, in any order, and what was found
                in each: boxes in the plan's frame and inside the window, with the window's id.

        Returns:
            The detections that became final, sorted by `y_min`, then `x_min`. After the last strip
            these are all that were left.

        Raises:
            ValueError: The strip is done or does not exist, a window belongs to another strip, or a
                box reaches out of its window or is NaN.
        """
        state, rows = self._state, self._plan.row_offs
        if not state.next_strip <= index < len(rows):
            raise ValueError(
                f"expected a strip of {state.next_strip} to {len(rows) - 1}, got {index}"
            )
        audit, parts = state.audit, [state.carried]
        for window, found in candidates:
            _check_inside(found, window, rows[state.next_strip], rows[index])
            sides = self._plan.cut_sides(found.boxes, window, margin_px=self._margin_px)
            cut: NDArray[np.bool_] = np.any(sides, axis=1)
            windows = found.window_ids[cut]
            audit = audit.counted(SeamEvent.CUT, windows, windows + self._towards(sides[cut]))
            parts.append(found.select(~cut))
        everything = Detections.concat(parts)
        unread_from = float(rows[index + 1]) if index + 1 < len(rows) else np.inf
        settled = self._merging.settle(everything, unread_from=unread_from)
        lost, winner = everything.window_ids[settled.absorbed].T
        audit = audit.counted(SeamEvent.MERGED, lost, winner)
        carried = everything.select(settled.pending)
        first, second, watched = _suspects(settled.final, carried, state.watched)
        audit = audit.counted(SeamEvent.SUSPECTED, first, second)
        self._state = StitchState(index + 1, carried, watched, audit)
        return _from_the_top(settled.final)

    def _towards(self, sides: NDArray[np.bool_]) -> NDArray[np.int64]:
        """From the id of the window that cuts each box to that of the neighbour: (N,)."""
        columns = len(self._plan.col_offs)
        steps = np.array([-1, -columns, 1, columns], dtype=np.int64)
        step: NDArray[np.int64] = steps[sides.argmax(axis=1)]
        return step


def _check_inside(found: Detections, window: Window, first_row: int, last_row: int) -> None:
    if not first_row <= window.row_off <= last_row:
        raise ValueError(
            f"expected windows of the strips at rows {first_row} to {last_row}, got {window}"
        )
    low, high = np.array(window.box[:2]), np.array(window.box[2:])
    outside = (found.boxes[:, :2] < low) | (found.boxes[:, 2:] > high)
    if outside.any():
        worst = int(np.flatnonzero(outside.any(axis=1))[0])
        raise ValueError(
            f"expected boxes inside {window}, in pixels of the whole plan, got "
            f"{found.boxes[worst]}; clip them to the chip, then shift them by the window's offsets"
        )


def _suspects(
    final: Detections, carried: Detections, watched: Detections
) -> tuple[NDArray[np.int64], NDArray[np.int64], Detections]:
    """Windows of the suspected pairs that are now final, and what to watch from now on."""
    known = Detections.concat([watched, final])
    everything = Detections.concat([known, carried])
    pairs = pairs_within(
        everything.boxes,
        threshold=SUSPECT_IOS,
        overlap=Overlap.IOS,
        class_ids=everything.class_ids,
    )
    windows = everything.window_ids[pairs]
    pairs = pairs[windows[:, 0] != windows[:, 1]]
    first, second = pairs.T  # the first of a pair comes earlier in `everything`
    now = (second >= len(watched)) & (second < len(known))
    waits = (first < len(known)) & (second >= len(known))
    return (
        everything.window_ids[first[now]],
        everything.window_ids[second[now]],
        known.select(np.unique(first[waits])),
    )


def _from_the_top(detections: Detections) -> Detections:
    """Sorted by `y_min`, `x_min`, and then by all that tells two detections apart."""
    x_min, y_min, x_max, y_max = detections.boxes.T
    order = np.lexsort(
        [
            detections.window_ids,
            detections.class_ids,
            -detections.scores,
            x_max,
            y_max,
            x_min,
            y_min,
        ]
    )
    return detections.select(order)
