"""The study's figures, each saved as PDF, PNG and the numbers it shows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechprobe.figures.matrices import named_matrix, task_matrix
from mechprobe.figures.style import PAGE
from mechprobe.figures.task_space import cluster_tree, over_steps, task_points, tuning_frontier
from mechprobe.runs import Run
from mechprobe.stats.ordination import row_distance, similarity_distance, task_map
from mechprobe.studies.report_parts import Gallery
from mechprobe.studies.task_spaces.results import Results
from mechprobe.studies.task_spaces.settings import Settings
from mechprobe.studies.task_spaces.tables import rows_where

Drawn = tuple[Figure, pd.DataFrame]
"""A figure and the numbers it shows."""


def draw(
    settings: Settings, results: Results, tables: dict[str, pd.DataFrame], run: Run
) -> dict[str, str]:
    """Draw every figure; returns name -> path of its PNG inside the run folder."""
    figures = {
        **matrices(settings, results), **neighbourhoods(settings, results),
        **tuning_and_growth(tables), **components(tables),
    }
    gallery = Gallery(run)
    for name, (figure, data) in figures.items():
        gallery.keep(name, figure, data)
    return gallery.drawn


def matrices(settings: Settings, results: Results) -> dict[str, Drawn]:
    """Transfer and gradients, one value for every two tasks."""
    names, kinds, a = results.pairs.names, results.pairs.phenomena, results.main.arrays
    nats = settings.scale == "log_odds"
    unit = "change of log odds, nats" if nats else "change of accuracy"

    def matrix(values: np.ndarray, unit: str, **options: object) -> Drawn:
        data = pd.DataFrame(values, index=names, columns=names).reset_index(names="task")
        figure = task_matrix(values, names, kinds, unit=unit, **options)  # pyright: ignore
        return figure, data

    def between(name: str, unit: str, **options: object) -> Drawn:
        values = a[name].copy()
        np.fill_diagonal(values, np.nan)
        return matrix(values, unit, rows="task", columns="task", **options)

    def transfer(values: np.ndarray, unit: str) -> Drawn:
        end = float(np.quantile(np.abs(values), 0.99))
        if not 0 < end < np.abs(values).max():
            return matrix(values, f"transfer ({unit})")
        unit = f"transfer ({unit}); 1 % of the cells lie beyond the ends"
        return matrix(values, unit, limits=(-end, end))

    return {
        "transfer": transfer(results.tuning.transfer, unit),
        "accuracy-transfer": transfer(
            100 * results.tuning.space.transfer("raw"), "points of accuracy"
        ),
        "gradient-overlap": between(
            "overlap", "overlap of the largest gradients", diverging=False
        ),
        "gradient-cosine": between("cosine", "cosine of the gradients"),
        "sign-agreement": between(
            "sign_agreement", "share of shared weights with one sign", limits=(0.0, 1.0)
        ),
    }


def neighbourhoods(settings: Settings, results: Results) -> dict[str, Drawn]:
    """Maps and trees of the tasks."""
    names, kinds = results.pairs.names, results.pairs.phenomena
    distances = {
        "transfer": row_distance(results.tuning.transfer),
        "gradients": similarity_distance(results.main.arrays["overlap"]),
    }
    measured = {"transfer": "1 - correlation of their transfer", "gradients":
                "largest overlap of two tasks minus theirs"}
    clusters = {"transfer": "transfer", "gradients": "gradient overlap"}
    drawn: dict[str, Drawn] = {}
    for name, distance in distances.items():
        points = task_map(distance, settings.map, settings.seed)
        data = pd.DataFrame({"task": names, "phenomenon": kinds, "x": points[:, 0],
                             "y": points[:, 1]})
        drawn[f"map-{name}"] = task_points(points, names, kinds), data
        tree = results.clusters[clusters[name]].tree
        drawn[f"tree-{name}"] = (
            cluster_tree(tree, names, kinds, distance=measured[name]),
            pd.DataFrame(tree, columns=["first", "second", "distance", "tasks"]),
        )
    return drawn


def tuning_and_growth(tables: dict[str, pd.DataFrame]) -> dict[str, Drawn]:
    """Kinds of tuning, and what changes over training."""
    drawn: dict[str, Drawn] = {}
    if "kinds-of-tuning" in tables:
        means = tables["kinds-of-tuning"]
        shown = rows_where(means, means["perplexity_ratio"] < 100)
        if len(shown):
            drawn["kinds-of-tuning"] = tuning_frontier(shown, width=PAGE), means
    grown = rows_where(tables["development"], tables["development"]["step"] > 0)
    if len(grown) > 1:
        width = PAGE if len(set(grown["model"])) > 1 else 0.6 * PAGE
        sharing = ["ceiling", "within", "across", "floor"]
        drawn["sharing"] = over_steps(grown, sharing, y="gradient overlap", width=width), grown
        drawn["distributedness"] = over_steps(
            grown, ["participation", "half_mass"], y="share of the weights", width=width
        ), grown
    return drawn


def components(tables: dict[str, pd.DataFrame]) -> dict[str, Drawn]:
    """Which layers and heads hold the gradient of each phenomenon, and which it needs."""
    parts = tables["parts"].set_index("phenomenon")
    kinds = list(parts.index)
    drawn: dict[str, Drawn] = {"parts": (named_matrix(
        100 * parts.to_numpy(), kinds, list(parts.columns), unit="share of the gradient (%)",
    ), tables["parts"])}
    for name, column, unit in (
        ("heads-gradient", "gradient_share", "share of the gradient, over the head's mean"),
        ("heads-closed", "drop_when_closed", "fall of the log odds when closed (nats)"),
    ):
        table = tables["heads"].pivot_table(
            index="phenomenon", columns="head", values=column, sort=False
        ).loc[kinds]
        share = column == "gradient_share"
        values = table / table.mean() if share else table
        drawn[name] = named_matrix(
            values.to_numpy(), kinds, list(table.columns), unit=unit, x="head", diverging=True,
            centre=1.0 if share else 0.0,
        ), table.reset_index()
    return drawn
