"""The study's figures, each saved as PDF, PNG and the numbers it shows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechprobe import figures
from mechprobe.runs import Run
from mechprobe.sites import Site
from mechprobe.studies.report_parts import Gallery
from mechprobe.studies.topology.baselines import CHAIN, RANDOM
from mechprobe.studies.topology.models import TRAINED
from mechprobe.studies.topology.results import UNTRAINED, Results, long_table

TREES = {"uuas": "UUAS", "dspr": "DSpr.", "sp_nspr": "NSpr. of the X_sp probe",
         "sp_root": "root accuracy of the X_sp probe"}
TOPOLOGY = {"x_ssp": "X_ssp (exact labels)", "x_ssp-greedy": "X_ssp (greedy labels)",
            "x_sp": "X_sp", "x_essp": "X_essp"}
MODELS = (TRAINED, UNTRAINED)
TAGS = {"upos": "accuracy, parts of speech", "upos-control": "accuracy, control task"}


def draw(results: Results, run: Run) -> dict[str, str]:
    """Draw every figure; returns name -> path of its PNG inside the run folder."""
    gallery = Gallery(run)
    keep = gallery.keep
    whole = long_table(results)
    for part in results.parts:
        rows = whole.query("sentences == @part and model in @MODELS")
        there = set(rows["metric"])
        for name, panels in {"trees": TREES, "topology": TOPOLOGY, "tags": TAGS}.items():
            shown = {m: label for m, label in panels.items() if m in there}
            if shown:
                data = rows.query(f"metric in {list(shown)}")
                keep(f"{name}-{part}", figures.layer_curves(
                    data, shown, levels=levels(results, part)
                ), data)
    if results.heads is not None:
        for metric, unit in (("uuas", "change in UUAS (points)"), ("x_ssp", "change in X_ssp")):
            keep(f"heads-{metric}", heads_map(results, metric, unit),
                 pd.DataFrame(results.heads[metric]["table"]))
    return gallery.drawn


def levels(results: Results, part: str) -> dict[str, dict[str, float]]:
    """Chain and random trees, as horizontal lines."""
    found: dict[str, dict[str, float]] = {}
    for metric, source in (("uuas", "uuas"), ("dspr", "dspr"), ("sp_nspr", "nspr"),
                           ("sp_root", "root")):
        found[metric] = {
            name: float(results.baselines[name, part, source].value()[0])
            for name in (CHAIN, RANDOM)
        }
    return found


def heads_map(results: Results, metric: str, unit: str) -> Figure:
    """Change at the best later layer beyond random turns, one cell a head."""
    assert results.heads is not None
    table = pd.DataFrame(results.heads[metric]["table"])
    sites = [Site.parse(name) for name in table["head"]]
    n_heads = 1 + max(int(site.index or 0) for site in sites)
    values = np.full((1 + max(site.layer for site in sites), n_heads), np.nan)
    scale = 100 if metric == "uuas" else 1
    for site, excess in zip(sites, table["excess"], strict=True):
        values[site.layer, int(site.index or 0)] = scale * excess
    sure = [site for site, p in zip(sites, table["p_corrected"], strict=True) if p < 0.05]
    title, untested = "closed minus turned", bool(np.isnan(values).any())
    figure = figures.head_map(
        values, title=f"{title}; grey: not tested" if untested else title, unit=unit,
        diverging=True, marked=sure, number=".1f" if metric == "uuas" else ".2f",
        framed="corrected p < .05",
    )
    if untested:
        figure.axes[0].set_facecolor("0.8")
    return figure
