"""The bars of the hierarchy study on several grammars: exact ones must hold, learned are listed.

    OMP_NUM_THREADS=1 python benchmarks/bench_hierarchy.py --grammars 0 1 2

One run of the study a grammar (preset full-cpu: both tasks at every filter level). A run that was
stopped goes on where it was; ``--only 2`` computes one grammar's run and no table, so that
grammars can be computed side by side; ``--gather`` computes nothing and takes the runs that are
there, which may lack models. Writes one table of bars by grammar.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from mechprobe import run_study
from mechprobe.runs.files import atomic_write
from mechprobe.runs.tables import read_table, write_table
from mechprobe.studies.hierarchy.settings import PRESETS

RESULTS = Path(__file__).resolve().parent / "results" / "hierarchy-bars"


def bars_by_grammar(runs: dict[int, Path]) -> pd.DataFrame:
    """One row a bar: what was asked, the value on each grammar, on how many it is met."""
    whole: pd.DataFrame | None = None
    keys = ["model", "bar", "asked", "exact"]
    for seed, folder in runs.items():
        table = read_table(folder / "tables" / "bars.csv")
        table["model"] = table["model"].fillna("")
        own = table.set_index(keys)[["value", "met"]].add_suffix(f"_{seed}")
        whole = own if whole is None else whole.join(own, how="outer", sort=False)
    assert whole is not None
    met = whole[[f"met_{seed}" for seed in runs]].astype(float)
    whole["met_on"] = met.sum(axis=1).astype(int)
    whole["of"] = met.notna().sum(axis=1)
    return whole.reset_index()


def markdown(table: pd.DataFrame, seeds: list[int], command: str) -> str:
    """The table as text, exact bars first, missed values marked."""
    lines = [
        "# Bars of the hierarchy study", "",
        f"Grammar seeds {', '.join(map(str, seeds))}. Exact bars must hold; learned ones are met "
        "or **missed** on each grammar.", "",
        "| Model | Bar | Asked | " + " | ".join(f"grammar {s}" for s in seeds) + " | met on |",
        "|---|---|---|" + "---:|" * len(seeds) + "---:|",
    ]
    for row in table.sort_values("exact", ascending=False, kind="stable").to_dict("records"):
        shown = []
        for seed in seeds:
            value, met = row[f"value_{seed}"], row[f"met_{seed}"]
            bold = "" if met == 1 else "**"
            shown.append("not run" if pd.isna(value) else f"{bold}{value:.3g}{bold}")
        kind = "exact" if bool(row["exact"]) else row["model"]
        lines.append(
            f"| {kind} | {row['bar'].replace('|', chr(92) + '|')} | {row['asked']} | "
            + " | ".join(shown) + f" | {row['met_on']} of {row['of']} |"
        )
    exact = table[table["exact"].astype(bool)]
    passed = bool((exact["met_on"] == exact["of"]).all())
    learned = table[~table["exact"].astype(bool)]
    for seed in seeds:
        lacking = dict.fromkeys(table.loc[table[f"value_{seed}"].isna(), "model"])
        if lacking:
            lines += ["", f"Not run on grammar {seed}: {', '.join(lacking)}."]
    lines += [
        "", f"Exact bars: {'pass' if passed else 'FAIL'}. Learned bars met: "
        f"{int(learned['met_on'].sum())} of {int(learned['of'].sum())}.", "",
        f"```sh\n{command}\n```", "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the study on each grammar and write the bars; 1 if an exact bar fails."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--grammars", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", type=int, help="compute this grammar's run and stop")
    parser.add_argument("--gather", action="store_true", help="compute nothing, write the table")
    parser.add_argument("--preset", default="full-cpu", choices=list(PRESETS))
    parser.add_argument("--runs", type=Path, default=Path("runs/hierarchy-bars"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.only is not None and given.only not in given.grammars:
        parser.error(f"--only {given.only} is none of --grammars {given.grammars}")
    runs = {seed: given.runs / f"{given.preset}-{seed}" for seed in given.grammars}
    for seed, folder in runs.items():
        if given.only in (None, seed) and not given.gather:
            run_study(
                "hierarchy", given.preset, folder, grammar_seed=seed, seed=seed,
                threads=given.threads,
            )
    if given.only is not None:
        return 0
    table = bars_by_grammar(runs)
    write_table(given.out / "bars.csv", table)
    words = f"python benchmarks/bench_hierarchy.py --grammars {' '.join(map(str, given.grammars))}"
    if given.preset != "full-cpu":
        words += f" --preset {given.preset}"
    text = markdown(table, given.grammars, words)
    atomic_write(given.out / "summary.md", text.encode())
    print(text)
    exact = table[table["exact"].astype(bool)]
    return int(not (exact["met_on"] == exact["of"]).all())


if __name__ == "__main__":
    raise SystemExit(main())
