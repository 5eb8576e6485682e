"""The study's figures, each saved as PDF, PNG and the numbers it shows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mechprobe.figures.head_map import head_map
from mechprobe.figures.style import PAGE, save_figure
from mechprobe.figures.task_space import over_steps, task_matrix, task_points, tuning_frontier
from mechprobe.runs import Run
from mechprobe.stats.ordination import row_distance, similarity_distance, task_map
from mechprobe.studies.task_spaces.results import Results, kinds_summary, rows_where
from mechprobe.studies.task_spaces.settings import Settings


def draw(settings: Settings, results: Results, run: Run) -> dict[str, str]:
    """Draw every figure; returns name -> path of its PNG inside the run folder."""
    drawn: dict[str, str] = {}
    names, kinds = results.pairs.names, results.pairs.phenomena

    def keep(name: str, figure: object, data: pd.DataFrame) -> None:
        save_figure(figure, run.path(f"figures/{name}"), data)  # pyright: ignore
        drawn[name] = f"figures/{name}.png"

    def table(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, index=names, columns=names).reset_index(names="task")

    main = results.main
    assert main.transfer is not None
    assert main.space is not None
    unit = {"log_odds": "transfer (change of log odds, nats)"}.get(
        settings.scale, "transfer (change of accuracy)")
    keep("transfer", task_matrix(main.transfer, names, kinds, unit=unit), table(main.transfer))
    raw = 100 * main.space.transfer("raw")
    keep("accuracy-transfer", task_matrix(
        raw, names, kinds, unit="transfer (points of accuracy)"), table(raw))
    shown = main.arrays["overlap"].copy()
    np.fill_diagonal(shown, np.nan)
    keep("gradient-overlap", task_matrix(
        shown, names, kinds, unit="overlap of the largest gradients", rows="task", columns="task",
        diverging=False), table(shown))
    near = main.arrays["cosine"].copy()
    np.fill_diagonal(near, np.nan)
    keep("gradient-cosine", task_matrix(
        near, names, kinds, unit="cosine of the gradients", rows="task", columns="task",
    ), table(near))
    for name, distance in (
        ("map-transfer", row_distance(main.transfer)),
        ("map-gradients", similarity_distance(main.arrays["overlap"])),
    ):
        points = task_map(distance)
        data = pd.DataFrame({"task": names, "phenomenon": kinds, "x": points[:, 0],
                             "y": points[:, 1]})
        keep(name, task_points(points, names, kinds), data)
    if not results.kinds.empty:
        means = kinds_summary(results.kinds)
        finite = rows_where(means, means["perplexity_ratio"] < 100)
        if len(finite):
            keep("kinds-of-tuning", tuning_frontier(finite, width=PAGE), means)
    grown = rows_where(results.development, results.development["step"] > 0)
    if len(grown) > 1:
        keep("sharing", over_steps(
            grown, ["ceiling", "within", "across", "floor"], y="gradient overlap"), grown)
        keep("distributedness", over_steps(
            grown, ["participation", "half_mass"], y="share of the weights"), grown)
    share = results.heads.pivot_table(
        index="phenomenon", columns="head", values="gradient_share", sort=False)
    layers, heads = main.arrays["heads"].shape[1:]
    for kind in share.index:
        values = 100 * share.loc[kind].to_numpy().reshape(layers, heads)
        keep(f"heads-{kind}", head_map(
            values, title=str(kind).replace("_", " "), unit="share of the gradient (%)",
            number=".1f"), rows_where(results.heads, results.heads.phenomenon == kind))
    return drawn
