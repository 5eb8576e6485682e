"""The claims about the topological metrics themselves, each with its null."""

from __future__ import annotations

from mechprobe.studies.claims import UNTESTED, Claim, judge
from mechprobe.studies.topology.models import TRAINED
from mechprobe.studies.topology.results import (
    UNTRAINED,
    Results,
    inequality_table,
    rank_of,
    span,
    ssp_kinds,
)


def lower_bound(results: Results) -> Claim:
    """X_ssp <= X_sp: follows from exact labels at equal B, asked of separate probes too."""
    table = inequality_table(results)
    same = table["x_ssp_at_the_x_sp_probe"] <= table["x_sp"] + 1e-9
    apart = table["x_ssp"] <= table["x_sp"]
    sure = table["sp_minus_ssp_low"] > 0
    n = len(table)
    return Claim(
        "X_ssp <= X_sp",
        judge(bool(same.all()) and bool(apart.all())),
        f"at the same B in {same.sum()} of {n} streams (it must be: the gold profile is one of "
        f"those the exact label is chosen from); with a probe trained for each in {apart.sum()} of "
        f"{n}, the interval of the difference above 0 in {sure.sum()}",
        "claimed; holds in all of the authors' logs",
    )


def upper_bound(results: Results) -> Claim:
    """X_sp <= X_essp: claimed, not provable."""
    table = inequality_table(results)
    held = table["x_sp"] <= table["x_essp"]
    flat = sum(share > 0.5 for share in results.probes["trained", "essp"]["flat"]["test"].values())
    against = table["essp_minus_sp_high"] < 0
    resid = table.query(f"stream in {results.residual()}")
    shown = ", ".join(
        f"{row['stream']} {row['x_sp']:.3f} and {row['x_essp']:.3f}"
        for row in resid.to_dict("records")
    )
    return Claim(
        "X_sp <= X_essp",
        judge(bool(held.all())),
        f"in {held.sum()} of {len(table)} streams; in {against.sum()} X_essp is smaller and the "
        f"interval of the difference excludes 0; the labels of X_essp are mostly one 1 and all "
        f"others 2 in {flat} of {len(table)}. X_sp and X_essp of the residual stream: {shown}",
        "claimed; does not hold at blocks 1 to 15 of the authors' own validation logs",
    )


def division_of_work(results: Results) -> Claim:
    """X_sp is best between the ends, in the trained model and more than in an untrained one."""
    names = results.residual()
    place = results.best("x_sp", least=True)
    drops = {
        (model, end): _drop(results, model, end, place)
        for model in ("trained", UNTRAINED) for end in (names[0], names[-1])
    }
    first, last = drops["trained", names[0]], drops["trained", names[-1]]
    null = drops[UNTRAINED, names[0]]
    inside = place not in (names[0], names[-1])
    held = inside and first[1] > 0 and last[1] > 0 and first[0] > null[2]
    if len(names) < 4:
        return Claim(
            "The metrics divide the layers: X_sp is best in between", UNTESTED,
            f"{len(names)} points of the residual stream; 4 or more are needed",
            "supervised depth best at blocks 14 to 18 of BERT-large; X_ssp jumps at blocks 11-12",
        )
    ssp = results.score("x_ssp")
    shown = " ".join(f"{ssp.value()[ssp.at(name)]:.3f}" for name in names)
    return Claim(
        "The metrics divide the layers: X_sp is best between the first and the last",
        judge(held),
        f"X_sp is least at {place} (chosen on other sentences): lower than at {names[0]} by "
        f"{span(first)}, than at {names[-1]} by {span(last)}; untrained, the same against "
        f"{names[0]}: {span(null)}. X_ssp from {names[0]} to {names[-1]}: {shown}",
        "supervised depth best at blocks 14 to 18 of BERT-large; X_ssp jumps 2.6-fold between 11 "
        "and 12",
    )


def _drop(results: Results, model: str, end: str, place: str) -> tuple[float, float, float]:
    """X_sp at one stream minus that at another, paired by sentence."""
    score = results.score("x_sp", model)
    one, other = (
        type(score)(("x",), score.top[i : i + 1], score.bottom, score.group)
        for i in (score.at(end), score.at(place))
    )
    return results.minus(one, other)["x"]


def separates_training(results: Results) -> Claim:
    """Ours: does the label-free metric tell a trained model from an untrained one?"""
    names = results.residual()
    parts, held = [], []
    for kind in ssp_kinds(results):
        own, null = (results.score(f"x_{kind}", model) for model in (TRAINED, UNTRAINED))
        found = results.minus(own, null)
        lower = [n for n in names if found[n][2] < 0]
        higher = [n for n in names if found[n][1] > 0]
        here, there = (results.train_loss(kind, model) for model in (TRAINED, UNTRAINED))
        fitted = sum(here[n] < there[n] for n in names)
        held.append(min(len(lower), fitted) > len(names) / 2)
        parts.append(
            f"rank {rank_of(results, kind)}: smaller at {len(lower)} "
            f"({', '.join(lower) or 'none'}), larger at {len(higher)} "
            f"({', '.join(higher) or 'none'}), intervals excluding 0; on the sentences B was "
            f"fitted to, smaller at {fitted}"
        )
    flat = results.probes[TRAINED, "ssp"]["flat"]["test"]
    mostly = [n for n in names if flat[n] > 0.5]
    return Claim(
        "Ours: X_ssp is smaller in a trained model than in an untrained one (over half of the "
        "points of the residual stream, on fitted and on other sentences, at every rank of B)",
        judge(all(held)),
        f"of {len(names)} points, {'; '.join(parts)}. Labels mostly one 1 and all others 2 at "
        f"{', '.join(mostly) or 'none'} (there a small X_ssp is no sign of a tree)",
        "not asked in the paper",
    )
