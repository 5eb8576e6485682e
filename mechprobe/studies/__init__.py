"""The studies by name; nothing heavy is imported before one is run."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mechprobe.errors import InputError

if TYPE_CHECKING:
    from mechprobe.runs import Unit


@dataclass(frozen=True)
class Study:
    """A study: a package of modules ``settings`` (no torch), ``check``, ``cost``, ``units``,
    ``study``."""

    name: str
    package: str
    summary: str

    @property
    def settings(self) -> type:
        """The dataclass of its settings."""
        return self._module("settings").Settings

    @property
    def presets(self) -> dict[str, Any]:
        """Its presets by name."""
        return self._module("settings").PRESETS

    @property
    def default_preset(self) -> str:
        """``laptop`` where there is one, else the first."""
        return "laptop" if "laptop" in self.presets else next(iter(self.presets))

    def settle(self, preset: str, given: Mapping[str, Any]) -> Any:
        """A preset, moved to the pair of data that is given, with the other given values over it.

        Raises:
            InputError: the study has no such preset.
        """
        settings = choose(preset, self.presets, f"preset of {self.name}")
        if "pair" in given and hasattr(settings, "pair"):
            settings = self._module("settings").for_pair(settings, given["pair"])
        known = {field.name for field in fields(self.settings)}
        return replace(settings, **{k: v for k, v in given.items() if k in known})

    def reads_files(self, settings: Any) -> bool:
        """Whether the settings' data come from files or the hub, not from templates."""
        from mechprobe.tasks.cards import read_card

        if hasattr(module := self._module("settings"), "reads_files"):
            return module.reads_files(settings)
        card = self._module("settings").PAIRS.get(settings.pair)
        return card is not None and read_card(card)["kind"] == "files"

    def check(self, settings: Any) -> None:
        """Raise InputError for settings that cannot work."""
        self._module("check").check(settings)

    def dry_run(self, settings: Any) -> str:
        """What a run would cost, as text."""
        return self._module("cost").dry_run(settings)

    def run(self, settings: Any, out: Path, *, command: str | None = None) -> Path:
        """Run or resume it in a folder; returns the path of the report."""
        return self._module("study").run(settings, out, command=command)

    def units(self, settings: Any) -> list[Unit]:
        """The pieces of work of a run, in an order in which each comes after what it needs."""
        return self._module("units").units(settings)

    def opened(self, settings: Any, out: Path, *, shared: bool = False) -> AbstractContextManager:
        """What the units of a run are given, its run folder among it; ``run`` raises the same."""
        return self._module("study").opened(settings, out, shared=shared)

    def finish(self, at: Any, command: str | None = None) -> Path:
        """Tables, figures and the report of a run whose units are all there; the report's path."""
        return self._module("study").finish(at, command)

    def _module(self, name: str) -> ModuleType:
        return import_module(f"{self.package}.{name}")


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study(
            "heuristic-core", "mechprobe.studies.heuristic_core",
            "many subnetworks of one classifier: equal in domain, apart out of domain, and the "
            "heads they share",
        ),
        Study(
            "abstraction", "mechprobe.studies.abstraction",
            "does a model reuse the concepts of one task in another, when, and in which heads",
        ),
        Study(
            "topology", "mechprobe.studies.topology",
            "which layers and submodules hold a sentence's tree: topological, structural and "
            "linear probes, heads, and fine-tuning pulled towards a tree",
        ),
        Study(
            "hierarchy", "mechprobe.studies.hierarchy",
            "trees and exact inference: in which order a model learns the levels of a hierarchy, "
            "and which heads rebuild them",
        ),
        Study(
            "task-space", "mechprobe.studies.task_spaces",
            "which linguistic tasks help each other and share weights: transfer and gradients of "
            "minimal pairs",
        ),
    )
}
"""Every study that ``mechprobe run`` knows."""


def choose(name: str, known: Mapping[str, Any], kind: str) -> Any:
    """``known[name]``; raises InputError with the nearest names when it is not there."""
    if name not in known:
        raise InputError(f"unknown {kind} {name!r}; {nearest(name, known)}")
    return known[name]


def option(name: str) -> str:
    """A setting's name on the command line."""
    return "--" + name.replace("_", "-")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint: the nearest known names, or all when none is near."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3)
    return f"nearest: {', '.join(near)}" if near else f"one of {', '.join(names)}"
