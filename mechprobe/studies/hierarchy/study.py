"""The hierarchy study end to end: train, score, look inside, judge, report."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

from mechprobe.errors import InputError
from mechprobe.runs import Run
from mechprobe.show.report import build_report
from mechprobe.studies.hierarchy.ancestors import probes_unit
from mechprobe.studies.hierarchy.attention import attention_unit
from mechprobe.studies.hierarchy.causal import blocks_unit
from mechprobe.studies.hierarchy.check import check
from mechprobe.studies.hierarchy.exact import exact_unit, planted_unit
from mechprobe.studies.hierarchy.models import train
from mechprobe.studies.hierarchy.ranking import ranking_unit
from mechprobe.studies.hierarchy.settings import Settings
from mechprobe.studies.hierarchy.specs import Spec, grammar_of, read_specs
from mechprobe.studies.hierarchy.trajectory import score_trajectory
from mechprobe.studies.hierarchy.write import write_results
from mechprobe.studies.timing import use_threads

FEWEST_HEADS = 6
Unit = Callable[[Settings, Spec, Run], dict]


def run(settings: Settings, out: Path, *, command: str | None = None) -> Path:
    """Run (or resume) the study in a folder and return the path of its report.

    Args:
        settings: a preset of ``PRESETS``, changed at will.
        out: run directory; finished units in it are not computed again, and training that was
            stopped goes on where it was.
        command: the command line to print in the report.

    Raises:
        InputError: before any long work, for settings that cannot work; or when the folder holds a
            run with other settings.
    """
    check(settings)
    settings = dataclasses.replace(settings, threads=use_threads(settings))
    config = {"study": "hierarchy", **dataclasses.asdict(settings)}
    with Run.open(out, config) as run_dir:
        refuse_other_rules(settings, run_dir)
        run_dir.unit("exact", lambda: exact_unit(settings))
        run_dir.unit("planted", lambda: planted_unit(settings, run_dir))
        for spec in read_specs(settings):
            for name, unit in units(settings, spec).items():
                run_dir.unit(
                    f"{name}-{spec.name}", lambda u=unit, s=spec: u(settings, s, run_dir)
                )
        write_results(settings, run_dir, command)
        return build_report(run_dir.folder)


def refuse_other_rules(settings: Settings, run: Run) -> None:
    """Raise InputError when the run was begun with other rules (an edited --rules file)."""
    table = grammar_of(settings).transition.numpy()
    now = hashlib.sha256(table.tobytes() + str(table.shape).encode()).hexdigest()
    if run.unit("rules", lambda: {"sha256": now})["sha256"] != now:
        raise InputError(
            f"{run.folder} holds a run on other rules: {settings.rules} has changed since; give "
            "another folder with --out"
        )


def units(settings: Settings, spec: Spec) -> dict[str, Unit]:
    """What is done with a model, in order; heads are ranked where there are six or more."""
    found: dict[str, Unit] = {
        "train": train, "score": score_trajectory, "attention": attention_unit,
    }
    mains = [other for other in read_specs(settings) if not other.variant]
    alone = not any(other.kind == spec.kind and other.full for other in mains)
    if spec.full and (not spec.variant or (alone and spec.own_grammar)):
        found["probes"] = probes_unit
        if spec.kind == "masked":
            found["blocks"] = blocks_unit
    if spec.full and spec.kind == "masked" and spec.own_grammar and (
        spec.n_heads * spec.n_layers >= FEWEST_HEADS
    ):
        found["ranking"] = ranking_unit
    return found
