"""Many rasters, each to files of its own, with the model loaded once."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Self

from geo_retina.detection.backends import load_model, runner_of
from geo_retina.detection.file_run import (
    RunFiles,
    check_run,
    detect_to_files,
)
from geo_retina.detection.file_writer import Writer
from geo_retina.detection.holes import holes_path
from geo_retina.detection.made_with import refuse_other_run
from geo_retina.detection.options import DetectOptions, OutputOptions, WorkOptions
from geo_retina.detection.paths import raster_name, refuse_overwriting
from geo_retina.detection.pipeline import OnProgress
from geo_retina.detection.resuming import ledger_path
from geo_retina.detection.run_summary import RunSummary
from geo_retina.errors import (
    GeoRetinaError,
    OutputError,
    RasterError,
    UsageError,
    WriteError,
)
from geo_retina.labels.files import list_images
from geo_retina.whole_files import NOT_IN_NAMES, check_place

NAME = "{name}"
"""What stands in an output's path for the name of the raster, without folder and ending."""

_TOLD = 5  # rasters whose faults an error tells


@dataclass(frozen=True, slots=True)
class Task:
    """One raster of many, and the files that are written of it."""

    raster: str
    outputs: tuple[Path, ...]
    picture: Path | None = None
    map: Path | None = None
    summary: Path | None = None

    @classmethod
    def of(
        cls,
        raster: str,
        outputs: Sequence[Path],
        **others: Path | None,
    ) -> Self:
        """What is to be done with one raster; paths hold `NAME`."""
        named = {key: path and _named(path, raster) for key, path in others.items()}
        return cls(raster, tuple(_named(path, raster) for path in outputs), **named)

    @property
    def further_files(self) -> list[Path]:
        """What is written besides the outputs."""
        return [path for path in (self.picture, self.map, self.summary) if path is not None]

    @property
    def files(self) -> list[Path]:
        """All that is written."""
        return [*self.outputs, *self.further_files]

    @property
    def is_done(self) -> bool:
        """Whether an earlier run left all its files, and nothing unfinished or unread."""
        unfinished = (ledger_path(self.outputs), holes_path(self.outputs[0]))
        whole = all(path.exists() for path in self.files)
        return whole and not any(path.exists() for path in unfinished)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one task."""

    task: Task
    result: RunSummary | GeoRetinaError


def names_each(outputs: Sequence[Path]) -> bool:
    """Whether outputs are named after their raster, so that there may be many rasters."""
    return any(NAME in str(path) for path in outputs)


def plan_tasks(
    rasters: Sequence[str],
    outputs: Sequence[Path],
    **others: Path | None,
) -> list[Task]:
    """Find the rasters and name the files of each.

    Args:
        rasters: Files, URLs, folders of them, or patterns such as `plots/*.tif`. Pictures that an
            earlier call like this left in a folder are no rasters.
        outputs: Paths with `NAME` in each.
        others: Of the picture, the map and the summary: as `outputs`, or None.

    Raises:
        OutputError: A path lacks `NAME`, or two rasters would be written to one file.
        LabelError: A folder or a pattern holds no raster.
    """
    for path in (*outputs, *others.values()):
        if path is not None and NAME not in str(path):
            raise OutputError(
                f"expected {NAME} in {path}, as in the other outputs: each raster has files of "
                "its own"
            )
    found = {file: file == raster for raster in rasters for file in list_images(raster)}
    tasks = [Task.of(file, outputs, **others) for file in found]
    own = {path.resolve() for task in tasks for path in task.files}
    tasks = [task for task in tasks if found[task.raster] or Path(task.raster).resolve() not in own]
    by_output: dict[str, Task] = {}
    for task in tasks:  # some disks do not tell A from a
        twin = by_output.setdefault(str(task.outputs[0]).casefold(), task)
        if twin is not task:
            raise OutputError(
                f"{twin.raster} and {task.raster} would both be written to {task.outputs[0]}; "
                "detect in them in two runs, with different outputs"
            )
    return tasks


class EachRun:
    """Detection in one raster after the other.

    With `work.resume` those are left as they are whose files all lie there, if they do not say that
    another model or other options made them.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        model: str | Path,
        options: DetectOptions,
        output_options: OutputOptions,
        work: WorkOptions,
        also: Callable[[Task], Sequence[Writer]] = lambda _task: (),
    ) -> None:
        """Prepare a run; nothing is read yet.

        Args:
            tasks: What `plan_tasks` found.
            model: Name of a bundled model, or path of a checkpoint.
            options: What changes the result.
            output_options: How detections are written.
            work: How the work is done.
            also: Makes further writers for a task, such as its picture.
        """
        is_done = [work.resume and task.is_done for task in tasks]
        self.done_before = list(compress(tasks, is_done))
        self.left = [task for task, done in zip(tasks, is_done, strict=True) if not done]
        self._megapixels: list[float] | None = None
        self._model = model
        self._options = options
        self._output_options = output_options
        self._work = work
        self._also = also

    def check(self, on_progress: Callable[[int, int], None] = lambda _done, _total: None) -> None:
        """Find out whether all rasters can be used, before the first one is begun.

        Args:
            on_progress: Called with the number of rasters that were checked, and of all.

        Raises:
            UsageError: What is wrong with one or more of them.
        """
        self._refuse_made_otherwise()
        for file in {file.parent: file for task in self.left for file in task.files}.values():
            check_place(file)  # once for a folder, not once for a raster
        checked: list[RunFiles] = []
        faults: list[tuple[Task, UsageError]] = []
        for number, task in enumerate(self.left, start=1):
            try:
                files = check_run(
                    task.raster,
                    task.outputs,
                    model=self._model,
                    options=self._options,
                    output_options=self._output_options,
                    work=self._work,
                    further_files=task.further_files,
                )
                self._also(task)
                if task.summary is not None:
                    check_place(task.summary)
                checked.append(files)
            except UsageError as error:
                faults.append((task, error))
            on_progress(number, len(self.left))
        _raise_all(faults, len(self.left))
        _refuse_seen_twice(self.left, checked)
        refuse_overwriting(
            dict.fromkeys(path for files in checked for path in files.read),
            [path for files in checked for path in files.written],
        )
        self._megapixels = [files.megapixels for files in checked]

    def _refuse_made_otherwise(self) -> None:
        """Refuse to go on beside files of another run: one folder would hold two kinds of results.

        Such are left where a run over what an earlier one had made was interrupted.
        """
        if not self.done_before:
            return
        work = self._work
        runner = runner_of(self._model, device=work.device, backend=work.backend, batch=work.batch)
        options = self._options.to_dict() | self._output_options.to_dict()
        for task in self.done_before:
            refuse_other_run(task.outputs, model_hash=runner.model_hash, options=options)

    def run(self, on_progress: OnProgress | None = None) -> Iterator[Outcome]:
        """Detect; a raster that fails is passed over.

        Args:
            on_progress: Called at the start and after each window, with megapixels and objects of
                all rasters.

        Yields:
            What became of each raster that is left.

        Raises:
            UsageError: From `check`, if that was not called yet.
            WriteError: The disk is full or lost.
        """
        if self._megapixels is None:
            self.check()
        sizes = self._megapixels or []
        if not self.left:
            return
        work = self._work
        model = load_model(self._model, device=work.device, batch=work.batch, backend=work.backend)
        work = replace(work, device="auto", batch=None, backend="auto")  # the model is loaded
        megapixels, objects = 0.0, 0
        for task, size in zip(self.left, sizes, strict=True):
            try:
                summary = detect_to_files(
                    task.raster,
                    task.outputs,
                    model=model,
                    options=self._options,
                    output_options=self._output_options,
                    work=work,
                    also=self._also(task),
                    further_files=task.further_files,
                    on_progress=_among_others(on_progress, megapixels, sum(sizes), objects),
                )
                if task.summary is not None:
                    summary.write(task.summary)
            except WriteError:
                raise
            except GeoRetinaError as error:
                yield Outcome(task, error)
            else:
                objects += summary.counts.objects
                yield Outcome(task, summary)
            megapixels += size


def _raise_all(faults: Sequence[tuple[Task, UsageError]], checked: int) -> None:
    if not faults:
        return
    first = faults[0][1]
    if len(faults) == checked and len({str(error) for _, error in faults}) == 1:
        raise first  # of an option, not of a raster
    raise type(first)(_tell(faults, checked)) from first


def _refuse_seen_twice(tasks: Sequence[Task], checked: Sequence[RunFiles]) -> None:
    """Refuse a mosaic beside its tiles: what they show would be found twice."""
    listed = {str(Path(task.raster).resolve()): task.raster for task in tasks}
    for task, files in zip(tasks, checked, strict=True):
        for path in files.read:
            part = listed.get(str(Path(path).resolve()), task.raster)
            if part != task.raster:
                raise RasterError(
                    f"{task.raster} shows {part}, which is to be searched too: its objects would "
                    "be found twice; leave one of them out"
                )


def _tell(faults: Sequence[tuple[Task, UsageError]], checked: int) -> str:
    told = [tell_fault(task, error) for task, error in faults[:_TOLD]]
    more = f"; and {len(faults) - _TOLD} more" if len(faults) > _TOLD else ""
    return (
        f"{len(faults):,} of {checked:,} rasters cannot be used, nothing was begun: "
        f"{'; '.join(told)}{more}"
    )


def tell_fault(task: Task, error: GeoRetinaError) -> str:
    """What is wrong with a raster; names it once."""
    return str(error) if task.raster in str(error) else f"{task.raster}: {error}"


def _named(path: Path, raster: str) -> Path:
    return Path(str(path).replace(NAME, _stem(raster)))


def _stem(raster: str) -> str:
    """Name of a raster without folder and ending, as a file may be called everywhere."""
    name = raster_name(raster)
    of_container = re.match(r"\w{2,}:", name)  # such as NETCDF:"file.nc":variable
    stem = name.replace('"', "") if of_container else Path(name).stem
    return stem.translate(dict.fromkeys(map(ord, NOT_IN_NAMES), "_"))


def _among_others(
    on_progress: OnProgress | None, before: float, whole: float, objects: int
) -> OnProgress | None:
    """The progress of one raster as that of all."""
    if on_progress is None:
        return None
    return lambda done, _total, found: on_progress(before + done, whole, objects + found)
