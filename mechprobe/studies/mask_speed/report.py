"""The benchmark's page, and the README's table, from what was measured."""

from __future__ import annotations

from typing import Any, cast

import pandas as pd

from mechprobe.studies.mask_speed.search import differences, ratios
from mechprobe.studies.mask_speed.search_report import search_lines
from mechprobe.studies.mask_speed.shapes import SHAPES

NAMES = {
    "engine": "mechprobe", "published": "published formulation", "hooks": "TransformerLens hooks",
    "vmap": "torch.func.vmap", "pyvene": "pyvene",
}  # fmt: skip
MISSING = "not measured"


def page(table: pd.DataFrame, search: dict[str, Any] | None = None) -> str:
    """What was measured, in Markdown; what was not is said.

    Args:
        table: rows of ``measure``, with what they were measured on.
        search: what ``compare_searches`` found.
    """
    steps = table.query("task == 'subnetwork-step'")
    lines = [
        "# Masks: time of a subnetwork-step",
        "",
        "A subnetwork-step is the loss (KL from the full model) of one gate vector on one batch "
        "and its gradient with respect to every gate that is neither 0 nor 1. All implementations "
        "run in turn in one process, round after round; a ratio is taken within a round, and its "
        "median and range over rounds are given. Closed gates are another random set of heads and "
        "MLPs in each member, in equal shares; the others are hard concrete samples. Before "
        "anything is timed the losses and gradients are compared. Weights are random.",
        "",
        "- published formulation: a Hugging Face model with masks, one subnetwork a run, the full "
        "model in every step, plain autograd (Bhaskar et al. 2024)",
        "- TransformerLens hooks: its own modules under a hook a layer, the full logits known",
        "- torch.func.vmap: a plain functional model, 4 masks at once, the full logits known",
        "- pyvene 0.1.8: a gate on all heads' z and on each MLP's output, in front of which it "
        "needs written-out attention; the full logits known. It maps GPT-2 and no BERT, so the "
        "other shapes: " + MISSING,
        "- NeuroSurgeon 0.1.0: " + MISSING + "; it masks weights, or rows of a weight matrix, with "
        "zeros, which is neither a gate a head nor a mean in its place",
        "",
    ]
    for device, part in steps.groupby("device", sort=False):
        lines += [f"## On {_where(part)}" if device == "cpu" else f"## On {device}", ""]
        lines += _beside(part) + _alone(part)
    lines += _sweeps(table) + search_lines(search)
    if not (table.device != "cpu").any():
        lines += ["On a GPU: " + MISSING + ".", ""]
    return "\n".join(lines)


def _where(part: pd.DataFrame) -> str:
    last = part.iloc[-1]
    chip = last.get("chip")
    named = chip if isinstance(chip, str) else "a CPU"
    return f"{last.threads} thread of {named}, float32, torch {last.torch}, in {last.unit}"


def _beside(part: pd.DataFrame) -> list[str]:
    """The engine beside the others."""
    rivals = [name for name in NAMES if name != "engine"]
    lines = [
        "| Shape | Closed | K | rounds | date | ms a step | steps a second | "
        "share of the arithmetic limit | " + " | ".join(f"x {NAMES[r]}" for r in rivals) + " |",
        "| --- " * (8 + len(rivals)) + "|",
    ]
    for setting, rows in part.groupby(["shape", "layers", "closed"], sort=True):
        shape, layers, closed = cast(tuple[str, int, float], setting)
        by: dict[str, Any] = {row.implementation: row for row in rows.itertuples()}  # pyright: ignore
        if not set(by) & set(rivals):
            continue
        ours = by["engine"]
        cells = [_ratio(by[r]) if r in by else MISSING for r in rivals]
        lines.append(
            f"| {_shape(str(shape), int(layers))} | {closed:.0%} | {ours.k} | {ours.repeats} | "
            f"{ours.date} | {_ms(ours)} | "
            f"{1 / ours.seconds:.3g} | {ours.share:.0%} | " + " | ".join(cells) + " |"
        )
    return [*lines, ""]


def _alone(part: pd.DataFrame) -> list[str]:
    """By the number of members."""
    alone = "implementation == 'engine' and shape == 'small' and closed == 0.5"
    ours = part.query(alone).sort_values("k").drop_duplicates("k", keep="last")
    if len(ours) < 2:
        return []
    lines = ["Shape small, 50 % closed, by how many members run at once:", "",
             "| K | ms a subnetwork-step | MiB on top |", "| --- | --- | --- |"]  # fmt: skip
    for found in ours.itertuples():
        row: Any = found
        memory = MISSING if pd.isna(row.memory) else f"{row.memory:.0f}"
        lines.append(f"| {row.k} | {_ms(row)} | {memory} |")
    return [*lines, ""]


def _sweeps(table: pd.DataFrame) -> list[str]:
    """Ablation sweeps."""
    rows = table.query("task == 'single-head ablation' and implementation == 'hooks'")
    lines = []
    for found in rows.itertuples():
        row: Any = found
        lines += [
            f"Every head of {_shape(str(row.shape), int(row.layers))} closed alone, forward only: "
            f"{_ratio(row)} times as fast as TransformerLens hooks.", "",
        ]  # fmt: skip
    return lines


def _shape(name: str, layers: int) -> str:
    shape = SHAPES[name.split(",")[0]]
    words = f", {shape.vocabulary} words written" if shape.writes else ""
    return (f"{name.split(',')[0]}: {layers} layers, d {shape.d_model}, {shape.n_heads} heads, "
            f"{shape.batch} x {shape.positions} tokens{words}")  # fmt: skip


def _ratio(row: Any) -> str:
    r: tuple[float, float, float] = (row.ratio, row.ratio_low, row.ratio_high)
    return f"{r[0]:.1f} [{r[1]:.1f}, {r[2]:.1f}]"


def _ms(row: Any) -> str:
    s: tuple[float, ...] = (row.seconds, row.seconds_low, row.seconds_high)
    return f"{1e3 * s[0]:.3g} [{1e3 * s[1]:.3g}, {1e3 * s[2]:.3g}]"


README_RIVALS = ("published", "hooks", "vmap", "pyvene")


def readme_lines(table: pd.DataFrame, search: dict[str, Any] | None) -> list[str]:
    """The README's table: how many times longer others take, on every shape measured on a CPU."""
    part = table.query("task == 'subnetwork-step' and device == 'cpu'")
    lines = [
        "| shape | closed | masks as published, full model every step | TransformerLens hooks | "
        "torch.func.vmap | pyvene |",
        "|---" * 6 + "|",
    ]
    for name in SHAPES:
        rows = part[part["shape"] == name]
        for closed, here in rows.groupby("closed", sort=True):
            by: dict[str, Any] = {row.implementation: row for row in here.itertuples()}  # pyright: ignore
            if "published" not in by:
                continue
            layers = int(by["published"].layers)
            cells = [_ratio(by[r]) if r in by else MISSING for r in README_RIVALS]
            share = f"{float(cast(float, closed)):.0%}".replace("%", " %")
            lines.append(f"| {_shape(name, layers)} | {share} | " + " | ".join(cells) + " |")
    if not (table.device != "cpu").any():
        lines.append("| any, on a GPU | | " + " | ".join([MISSING] * len(README_RIVALS)) + " |")
    return [*lines, "", *_sweeps(table), *_searched(search)]


def _searched(search: dict[str, Any] | None) -> list[str]:
    """One sentence on whole searches."""
    if search is None or not search["published"]:
        return [f"Time to 12 subnetworks beside the published search: {MISSING}."]
    name, ours = next(iter(search["ours"].items()))
    times, gap = ratios(ours, search["published"]), differences(ours, search["published"])
    kl = [sum(rows) / len(rows) for rows in (ours["kl"], [r["kl"] for r in search["published"]])]
    return [
        f"Time to 12 subnetworks ({name}, at {search['sparsity']:.0%} closed) is "
        f"{sorted(times)[len(times) // 2]:.0f} [{min(times):.0f}, {max(times):.0f}] times less "
        f"than that of the published search (scaled to 12 from {len(search['published'])} "
        f"complete runs), at a held-out KL of {kl[0]:.3f} against {kl[1]:.3f} "
        f"({max(gap):+.3f} at most on the same seed)."
    ]
