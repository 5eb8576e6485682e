"""The benchmark's table: rows in a CSV that parts of a measurement add to, and a page from them."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch

from mechprobe.runs.files import atomic_write
from mechprobe.runs.tables import write_table
from mechprobe.studies.mask_speed.measure import Row, by_cpu_seconds
from mechprobe.studies.mask_speed.shapes import SHAPES

KEY = ["device", "task", "shape", "layers", "closed", "k"]
NAMES = {
    "engine": "mechprobe", "published": "published formulation", "hooks": "TransformerLens hooks",
    "vmap": "torch.func.vmap",
}  # fmt: skip
MISSING = "not measured"


def table_of(rows: Sequence[Row], device: str, repeats: int) -> pd.DataFrame:
    """Rows with what they were measured on."""
    unit = "CPU seconds" if by_cpu_seconds(device) else "seconds"
    about = {
        "device": device if device == "cpu" else torch.cuda.get_device_name(device),
        "unit": unit, "threads": torch.get_num_threads(), "repeats": repeats,
        "torch": torch.__version__, "date": date.today().isoformat(),
    }  # fmt: skip
    return pd.DataFrame([{"share": None, "memory": None} | about | row for row in rows])


def keep(folder: Path, rows: Sequence[Row], device: str, repeats: int) -> pd.DataFrame:
    """Add rows to ``masks.csv``, in place of older ones of the same setting; returns all."""
    new = table_of(rows, device, repeats)
    path = folder / "masks.csv"
    if path.exists():
        old = pd.read_csv(path)
        fresh = set(map(tuple, new[KEY].astype(str).to_numpy()))
        stale = [tuple(row) in fresh for row in old[KEY].astype(str).to_numpy()]
        kept = old.loc[[not s for s in stale]]
        new = pd.concat([kept, new], ignore_index=True)
    write_table(path, new)
    return new


def page(table: pd.DataFrame) -> str:
    """What was measured, in Markdown; what was not is said."""
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
        "- NeuroSurgeon, pyvene: " + MISSING,
        "",
    ]
    for device, part in steps.groupby("device", sort=False):
        lines += [f"## On {_where(part)}" if device == "cpu" else f"## On {device}", ""]
        lines += _beside(part) + _alone(part)
    lines += _sweeps(table)
    if not (table.device != "cpu").any():
        lines += ["On a GPU: " + MISSING + ".", ""]
    return "\n".join(lines)


def _where(part: pd.DataFrame) -> str:
    last = part.iloc[-1]
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    names = [n.partition(":")[2].strip() for n in text.splitlines() if n.startswith("model name")]
    chip = names[0] if names else platform.machine()
    return f"{last.threads} thread of {chip}, float32, torch {last.torch}, in {last.unit}"


def _beside(part: pd.DataFrame) -> list[str]:
    """The engine beside the others."""
    rivals = [name for name in NAMES if name != "engine"]
    lines = [
        "| Shape | Closed | ms a step | steps a second | share of the arithmetic limit | "
        + " | ".join(f"x {NAMES[r]}" for r in rivals) + " |",
        "| --- " * (5 + len(rivals)) + "|",
    ]
    for setting, rows in part.groupby(["shape", "layers", "closed"], sort=True):
        shape, layers, closed = cast(tuple[str, int, float], setting)
        by: dict[str, Any] = {row.implementation: row for row in rows.itertuples()}  # pyright: ignore
        if not set(by) & set(rivals):
            continue
        ours = by["engine"]
        cells = [_ratio(by[r]) if r in by else MISSING for r in rivals]
        lines.append(
            f"| {_shape(str(shape), int(layers))} | {closed:.0%} | {_ms(ours)} | "
            f"{1 / ours.seconds:.3g} | {ours.share:.0%} | " + " | ".join(cells) + " |"
        )
    return [*lines, ""]


def _alone(part: pd.DataFrame) -> list[str]:
    """By the number of members."""
    alone = "implementation == 'engine' and shape == 'small' and closed == 0.5"
    ours = part.query(alone).sort_values("k")
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
    return (f"{name.split(',')[0]}: {layers} layers, d {shape.d_model}, {shape.n_heads} heads, "
            f"{shape.batch} x {shape.positions} tokens")  # fmt: skip


def _ratio(row: Any) -> str:
    r: tuple[float, float, float] = (row.ratio, row.ratio_low, row.ratio_high)
    return f"{r[0]:.1f} [{r[1]:.1f}, {r[2]:.1f}]"


def _ms(row: Any) -> str:
    s: tuple[float, ...] = (row.seconds, row.seconds_low, row.seconds_high)
    return f"{1e3 * s[0]:.3g} [{1e3 * s[1]:.3g}, {1e3 * s[2]:.3g}]"


def write(folder: Path, rows: Sequence[Row], device: str, repeats: int) -> str:
    """Write ``masks.csv`` and ``masks.md``; returns the page."""
    text = page(keep(folder, rows, device, repeats))
    atomic_write(folder / "masks.md", text.encode())
    return text
