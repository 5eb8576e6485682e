"""The study's figures, each saved as PDF, PNG and the numbers it shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mechprobe import figures
from mechprobe.figures.transfer import gains, memory_and_transfer, procedure_bars
from mechprobe.runs import Run
from mechprobe.sites import Site
from mechprobe.studies.abstraction.settings import Settings
from mechprobe.studies.report_parts import Gallery


def draw(
    settings: Settings, run: Run, procedures: pd.DataFrame, gained: pd.DataFrame,
    timelines: Sequence[pd.DataFrame],
) -> dict[str, str]:
    """Draw every figure; name -> path of its PNG inside the run folder."""
    gallery = Gallery(run)
    keep = gallery.keep
    keep("procedures", procedure_bars(procedures), procedures)
    keep("gains", gains(gained), gained)
    if timelines:
        whole = pd.concat(
            [table.assign(set=i + 1) for i, table in enumerate(timelines)], ignore_index=True
        )
        keep("memorise-then-abstract", memory_and_transfer(whole), whole)
    first = run.read_table(f"tables/heads-{settings.baselines[0]}-set-1.csv")
    for stack, values, marked in head_maps(first):
        name = f"heads{'-' + stack if stack else ''}"
        title = {"enc": "encoder", "dec": "decoder", "cross": "cross-attention"}.get(stack, "")
        keep(name, figures.head_map(
            values, title=title, unit="drop in generalisation - in distribution (nats)",
            diverging=True, number=".2g", marked=marked,
        ), first)
    for order in ("top", "bottom"):
        table = run.read_table(f"tables/closing-{order}-set-1.csv")
        keep(f"closing-{order}", figures.closing_curve(
            table, unit="log probability (nats)", title=f"{order} heads closed first",
        ), table)
    return gallery.drawn


def head_maps(table: pd.DataFrame) -> list[tuple[str, np.ndarray, list[Site]]]:
    """For each attention type: scores by layer and head, and the heads to frame."""
    sites = [Site.parse(name) for name in table["site"]]
    out = []
    for stack in dict.fromkeys(site.stack for site in sites):
        mine = [i for i, site in enumerate(sites) if site.stack == stack]
        places = [(sites[i].layer, sites[i].index or 0) for i in mine]
        values = np.full(np.max(places, axis=0) + 1, np.nan)
        for i, place in zip(mine, places, strict=True):
            values[place] = table["score"].iloc[i]
        # marks carry no stack: a map shows one attention type
        marked = [
            Site("head", sites[i].layer, sites[i].index) for i in mine
            if table["p_corrected"].iloc[i] < 0.05
        ]
        out.append((stack, values, marked))
    return out
