"""Do localisers rank the heads of trained models alike, and what does each cost?

    python benchmarks/bench_agreement.py [--encoder FOLDER]

On the trained induction model (decoder, counterfactual pairs) and, where a folder is given, on an
encoder that the heuristic-core study trained (``nli/overlap``; there are no counterfactual pairs,
so closed heads stand at their mean). Writes tables and a summary to results/agreement/.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

import mechprobe as mp
from mechprobe.locate.agree import RankAgreement
from mechprobe.locate.learn import learn_masks
from mechprobe.planted.trained import trained_induction
from mechprobe.runs import atomic_write
from mechprobe.runs.config import environment

RESULTS = Path(__file__).resolve().parent / "results" / "agreement"


def on_decoder(seed: int) -> RankAgreement:
    """All localisers on the induction model, closed heads standing at their counterfactual."""
    case = trained_induction(seed, progress=True)
    shared = {"n": None, "seed": seed}
    gated = {"baseline": "paired", "progress": False, **shared}
    return mp.rank_agreement(case.model, case.task, {
        "ablation": partial(mp.ablate, **gated),
        "ablation, mean": partial(mp.ablate, **{**gated, "baseline": "mean"}),
        "leave one in": partial(mp.ablate, how="leave_one_in", **gated),
        "noising": partial(mp.patch, direction="noising", progress=False, **shared),
        "denoising": partial(mp.patch, direction="denoising", progress=False, **shared),
        "first order": partial(mp.attribute, method="first_order", **gated),
        "integrated": partial(mp.attribute, method="integrated", **gated),
        "direct": partial(mp.direct_logit_attribution, **shared),
        "paths to logits": lambda model, task: mp.path_patch(
            model, task, progress=False, **shared
        ).into("logits"),
        "masks": partial(
            learn_masks, baseline="paired", sparsity=0.6, steps=150, n=256, progress=False
        ),
    }, metric="logit_difference", n=256, seed=seed)


def on_encoder(folder: str, seed: int) -> RankAgreement:
    """The localisers that need no counterfactual, on the study's own model."""
    model = mp.load_model(folder)
    gated = {"baseline": "mean", "n": None, "seed": seed, "progress": False}
    return mp.rank_agreement(model, mp.load_task("nli/overlap"), {
        "ablation": partial(mp.ablate, **gated),
        "ablation, zero": partial(mp.ablate, **{**gated, "baseline": "zero"}),
        "ablation, resample": partial(mp.ablate, **{**gated, "baseline": "resample"}),
        "leave one in": partial(mp.ablate, how="leave_one_in", **gated),
        "first order": partial(mp.attribute, method="first_order", **gated),
        "integrated": partial(mp.attribute, method="integrated", **gated),
        "masks": partial(
            learn_masks, baseline="mean", sparsity=0.35, steps=150, n=256, progress=False
        ),
    }, metric="logit_difference", n=256, seed=seed)


def section(title: str, found: RankAgreement) -> str:
    """One model's costs and agreement as markdown."""
    costs = found.costs().round({"seconds": 1, "split_half": 2})
    matrix = found.matrix().round(2)
    return "\n".join([
        f"## {title}", "", "Spearman's rho between held-out mean effects of all heads.", "",
        markdown(matrix.rename_axis("").reset_index()), "",
        "Passes over each batch, seconds in this run, and each method's agreement with itself "
        "between two halves of the examples (of masks: not split).", "", markdown(costs), "",
    ])


def markdown(table: pd.DataFrame) -> str:
    """A table as markdown."""
    rows = [table.columns.astype(str).tolist(), ["---"] * table.shape[1]]
    rows += [["" if pd.isna(v) else str(v) for v in row] for row in table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Run both and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", help="a classifier trained on nli/overlap")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = {"Trained induction model (2 layers, decoder)": ("induction", on_decoder(given.seed))}
    if given.encoder is not None:
        name = "Encoder trained on nli/overlap (heuristic-core laptop)"
        found[name] = ("overlap", on_encoder(given.encoder, given.seed))
    text = ["# Rank agreement of localisers on trained models", ""]
    for title, (short, agreement) in found.items():
        agreement.table().round(3).to_csv(_place(f"{short}-agreement.csv"), index=False)
        agreement.costs().round(3).to_csv(_place(f"{short}-costs.csv"), index=False)
        text.append(section(title, agreement))
    own = environment()
    machine = {k: v for k, v in own.items() if k != "versions"} | own["versions"]
    text += [", ".join(f"{k} {v}" for k, v in machine.items()), ""]
    atomic_write(RESULTS / "summary.md", "\n".join(text).encode())
    print("\n".join(text))


def _place(name: str) -> Path:
    RESULTS.mkdir(parents=True, exist_ok=True)
    return RESULTS / name


if __name__ == "__main__":
    main()
