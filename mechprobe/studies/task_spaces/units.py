"""The units of a run: models, the gradients of each point, each tuned task, kinds of tuning."""

from __future__ import annotations

from pathlib import Path

from mechprobe.runs import Run, Unit
from mechprobe.studies.task_spaces import regime, spaces
from mechprobe.studies.task_spaces.models import Point, given_points, load_pairs, train_model
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.task_spaces.spaces import OpenPoint
from mechprobe.tasks.minimal_pairs import MinimalPairs
from mechprobe.tasks.pair_templates import ENGLISH, read_pair_card
from mechprobe.training.pretrain import checkpoint_folder, log_grid


class StudyRun:
    """What the units of a run share in one process: settings, pairs, the run, one open point."""

    def __init__(self, settings: Settings, pairs: MinimalPairs, run: Run) -> None:
        self.settings, self.pairs, self.run = settings, pairs, run
        self.points = points(settings, run.folder)
        self._opened: OpenPoint | None = None

    def point(self, name: str) -> OpenPoint:
        """A point of training; the one opened before it is let go."""
        if self._opened is None or self._opened.point.name != name:
            found = next(p for p in self.points if p.name == name)
            self._opened = OpenPoint(self.settings, self.pairs, found)
        return self._opened


def points(settings: Settings, folder: Path) -> list[Point]:
    """Every point of training of a run in a folder: of the models trained there, or given."""
    if settings.models:
        return [point for name in settings.models for point in given_points(settings, name)]
    grid = log_grid(settings.train_steps, settings.n_checkpoints, settings.first_checkpoint)
    whole = grid[-settings.n_spaces :]
    return [
        Point(size, step, str(checkpoint_folder(folder / f"lm-{size}", step)), step in whole)
        for size in settings.sizes for step in grid
    ]


def units(settings: Settings) -> list[Unit]:
    """Every unit of a run, in an order in which each comes after what it needs."""
    every = points(settings, Path())
    n_tasks = count_tasks(settings)
    trained = () if settings.models else settings.sizes
    found = [_train(size) for size in trained]
    for point in every:
        found += point_units(point, n_tasks, (f"train-{point.model}",) if trained else ())
    if settings.regime_tasks:
        name = regime.regime_point(settings, every).name
        found += [_kinds(name, place) for place in range(min(settings.regime_tasks, n_tasks))]
    return found


def point_units(point: Point, n_tasks: int, needs: tuple[str, ...]) -> list[Unit]:
    """What is done at a point of training; tasks are tuned on where it is to be whole."""
    name = point.name
    found = [
        Unit(f"gradients-{name}", lambda at: spaces.gradient_unit(at.point(name), at.run), needs)
    ]
    if not point.whole:
        return found
    return [
        *found, *(_tuned(name, task, needs) for task in range(n_tasks)),
        Unit(f"heads-{name}", lambda at: spaces.heads_unit(at.point(name), at.run), needs),
    ]


def kinds_name(point: str, place: int) -> str:
    """Name of the unit that tunes the place-th compared task in every way."""
    return f"kinds-{point}-place-{place}"


def count_tasks(settings: Settings) -> int:
    """How many paradigms a run has."""
    if settings.paradigms:
        return len(settings.paradigms)
    if settings.pairs == "own":
        return len(read_pair_card(ENGLISH)["paradigm"])
    return len(load_pairs(settings))


def _train(size: str) -> Unit:
    return Unit(f"train-{size}", lambda at: train_model(at.settings, at.pairs, at.run, size))


def _tuned(name: str, task: int, needs: tuple[str, ...]) -> Unit:
    return Unit(
        f"tuned-{name}-{task:03d}", lambda at: spaces.tuned_unit(at.point(name), task, at.run),
        needs,
    )


def _kinds(name: str, place: int) -> Unit:
    return Unit(
        kinds_name(name, place), lambda at: regime.kinds_unit(at.point(name), place, at.run),
        (f"gradients-{name}",),
    )
