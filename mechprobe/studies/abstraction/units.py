"""The units of a run: MainExp, ControlExp and ContrastExp of every set, and the analyses."""

from __future__ import annotations

from mechprobe.runs import Run, Unit
from mechprobe.studies.abstraction.borrowed import borrowed_unit, borrows
from mechprobe.studies.abstraction.generic_pretraining import AFTER
from mechprobe.studies.abstraction.heads import heads_unit
from mechprobe.studies.abstraction.mutations import mutated_name
from mechprobe.studies.abstraction.procedures import (
    SetRun,
    first_unit,
    generic_unit,
    target_unit,
)
from mechprobe.studies.abstraction.settings import STARTS, Settings
from mechprobe.studies.abstraction.timeline import point_steps, point_unit


class StudyRun:
    """What the units of a run share in one process: settings, the run, the data of one set."""

    def __init__(self, settings: Settings, run: Run) -> None:
        self.settings, self.run = settings, run
        self._sets: dict[tuple[int, str | None], SetRun] = {}

    def set(self, index: int, mutation: str | None = None) -> SetRun:
        """A set, maybe with a concept changed; the one opened before it is let go."""
        if (index, mutation) not in self._sets:
            self._sets.clear()
            self._sets[index, mutation] = SetRun(self.settings, self.run, index, mutation)
        return self._sets[index, mutation]


def units(settings: Settings) -> list[Unit]:
    """Every unit of a run, in an order in which each comes after what it needs."""
    return [
        *(unit for i in range(settings.n_sets) for unit in set_units(settings, i)),
        *(
            unit for i in range(settings.n_sets) for m in settings.mutations
            for unit in mutation_units(settings, m, i)
        ),
    ]


def set_units(settings: Settings, i: int) -> list[Unit]:
    """MainExp, ControlExp and ContrastExp of one set, and the analyses of its models."""
    points = point_steps(settings)
    found = [
        _first(i, start, f"{start}-{i}", points if start == "auxiliary" else [])
        for start in ("auxiliary", "contrast")
    ]
    last = settings.adapt[-1]
    kept = {last, "words"} if borrows(settings) else {last}
    found += [
        _target(
            i, start, adapt, f"target-{start}-{adapt}-{i}",
            None if start == "control" else f"{start}-{i}",
            keep=start == "auxiliary" and adapt in kept,
        )
        for adapt in settings.adapt for start in STARTS
    ]
    found += [_point(i, step) for step in ((0, *points) if points else ())]
    found += after_generic(settings, i) if settings.generic_steps else []
    main = f"target-auxiliary-{last}-{i}"
    if borrows(settings):
        words = f"target-auxiliary-words-{i}"
        found.append(Unit(f"borrowed-{i}", lambda at: borrowed_unit(at.set(i), words), (words,)))
    return [*found, Unit(f"heads-{i}", lambda at: heads_unit(at.set(i), main), (main,))]


def after_generic(settings: Settings, i: int) -> list[Unit]:
    """MainExp and ControlExp of a model that first learnt the grammar in other vocabularies."""
    first, then = f"generic-{i}", f"auxiliary{AFTER}-{i}"
    return [
        Unit(first, lambda at: generic_unit(at.set(i))),
        _first(i, "auxiliary", then, [], source=first),
        *(
            _target(i, "auxiliary", adapt, f"target-{start}{AFTER}-{adapt}-{i}", source)
            for adapt in settings.adapt
            for start, source in (("control", first), ("auxiliary", then))
        ),
    ]


def mutation_units(settings: Settings, mutation: str, i: int) -> list[Unit]:
    """The auxiliary task of a set with one concept changed, and what then transfers."""
    name, adapt = mutated_name(mutation, i), settings.adapt[-1]
    return [
        _first(i, "auxiliary", name, [], mutation=mutation),
        _target(i, "auxiliary", adapt, f"target-{name}-{adapt}", name, mutation=mutation),
    ]


def _first(
    i: int, start: str, name: str, points: list[int], *, source: str | None = None,
    mutation: str | None = None,
) -> Unit:
    return Unit(
        name, lambda at: first_unit(at.set(i, mutation), start, name, points, source),
        () if source is None else (source,),
    )


def _target(
    i: int, start: str, adapt: str, name: str, source: str | None, *, keep: bool = False,
    mutation: str | None = None,
) -> Unit:
    return Unit(
        name,
        lambda at: target_unit(at.set(i, mutation), start, adapt, name, source, keep=keep),
        () if source is None else (source,),
    )


def _point(i: int, step: int) -> Unit:
    source = None if step == 0 else f"auxiliary-{i}-step-{step:06d}"
    return Unit(
        f"point-{i}-{step:06d}", lambda at: point_unit(at.set(i), step, source),
        () if source is None else (f"auxiliary-{i}",),
    )
