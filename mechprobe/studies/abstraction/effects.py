"""Performance and gains from the outcomes of finished units; no model runs here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mechprobe.stats.intervals import Interval
from mechprobe.stats.nested import nested_bootstrap
from mechprobe.studies.abstraction.settings import STARTS, Settings
from mechprobe.tasks.abstraction import SequencePairs

Found = Mapping[str, Mapping]
NAMES = {"auxiliary": "MainExp", "control": "ControlExp", "contrast": "ContrastExp"}


@dataclass(frozen=True)
class Probe:
    """Outcomes of the three procedures for one way to learn the target task.

    Attributes:
        adapt: a key of ``ADAPT``.
        right: for each procedure and split ("test", "ood") one array of 0 and 1 a set.
    """

    adapt: str
    right: Mapping[tuple[str, str], Sequence[np.ndarray]]

    def score(self, start: str, split: str, settings: Settings) -> Interval:
        """Exact match: mean over sets, interval over sets and examples."""
        return nested_bootstrap(self.right[start, split], settings.seed, settings.n_boot)

    def gain(self, start: str, over: str, split: str, settings: Settings) -> Interval:
        """Exact match of one procedure less another's, paired by example."""
        pairs = zip(self.right[start, split], self.right[over, split], strict=True)
        return nested_bootstrap([a - b for a, b in pairs], settings.seed, settings.n_boot)

    def against(self, other: Probe) -> Probe:
        """The same main beside control and contrast of another way to learn the same items."""
        mine = {key: value for key, value in self.right.items() if key[0] == "auxiliary"}
        return replace(self, right={**other.right, **mine})

    def only(self, chosen: Sequence[np.ndarray]) -> Probe:
        """The same on some generalisation items: for each set whether an item is among them."""
        return replace(self, right={
            (start, split): [
                part[mine] if split == "ood" else part
                for part, mine in zip(parts, chosen, strict=True)
            ]
            for (start, split), parts in self.right.items()
        })


def probes(settings: Settings, found: Found) -> list[Probe]:
    """The three procedures for each way to adapt."""
    return [
        Probe(adapt, {
            (start, split): [
                np.array(found[f"target-{start}-{adapt}-{i}"][split], float)
                for i in range(settings.n_sets)
            ]
            for start in STARTS for split in ("test", "ood")
        })
        for adapt in settings.adapt
    ]


def procedure_table(settings: Settings, tried: Sequence[Probe]) -> pd.DataFrame:
    """One row a way to adapt and procedure: exact match with intervals, in and out."""
    rows = []
    for probe in tried:
        for start in STARTS:
            row: dict[str, object] = {"adapt": probe.adapt, "procedure": NAMES[start]}
            for split, name in (("test", "in_distribution"), ("ood", "generalisation")):
                ends = probe.score(start, split, settings)
                row |= {name: ends.estimate, f"{name}_low": ends.low, f"{name}_high": ends.high}
            rows.append(row)
    return pd.DataFrame(rows)


def whole_probe(tried: Sequence[Probe]) -> Probe | None:
    """The probe in which all weights learn, where the run has it; its control is the strongest."""
    return next((probe for probe in tried if probe.adapt == "full"), None)


def gain_table(settings: Settings, tried: Sequence[Probe]) -> pd.DataFrame:
    """E1 and E2: MainExp less ControlExp and less ContrastExp on the generalisation test.

    Where a body stays frozen, both are also against the ones that learn all weights: with a random
    body, or that of another grammar, the target task is hardly learnt, so to beat them says little.
    """
    whole = whole_probe(tried)
    rows = []
    for probe in tried:
        for test, over in (("E1", "control"), ("E2", "contrast")):
            pairs = {NAMES[over]: probe}
            if whole is not None and whole is not probe:
                pairs[f"{NAMES[over]} (full)"] = probe.against(whole)
            rows += [
                {"adapt": probe.adapt, "test": test, "difference": f"MainExp - {name}",
                 **gain_row(settings, pair, over)}
                for name, pair in pairs.items()
            ]
    return pd.DataFrame(rows)


def gain_row(settings: Settings, probe: Probe, over: str) -> dict[str, object]:
    """MainExp less another procedure, with its interval, and the sets in which it is above 0."""
    ends = probe.gain("auxiliary", over, "ood", settings)
    pairs = zip(probe.right["auxiliary", "ood"], probe.right[over, "ood"], strict=True)
    return {
        "gain": ends.estimate, "low": ends.low, "high": ends.high,
        "sets_above_0": sum(float((a - b).mean()) > 0 for a, b in pairs),
        "sets": settings.n_sets,
    }


def kind_gains(
    settings: Settings, tried: Sequence[Probe], kinds: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """``gain_table`` on the items of each kind alone (``item_kinds`` of each set).

    A kind of which some set has no item is left out.
    """
    each = [np.array(part) for part in kinds]
    parts = [
        gain_table(settings, [probe.only([part == kind for part in each]) for probe in tried])
        .assign(kind=kind)
        for kind in dict.fromkeys(kinds[0]) if all(kind in part for part in kinds)
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def set_table(settings: Settings, found: Found, tried: Sequence[Probe]) -> pd.DataFrame:
    """One row a set, way to adapt and procedure."""
    return pd.DataFrame([
        {
            "set": i + 1, "adapt": probe.adapt, "procedure": NAMES[start],
            "in_distribution": float(probe.right[start, "test"][i].mean()),
            "generalisation": float(probe.right[start, "ood"][i].mean()),
            "log_probability": float(np.mean(
                found[f"target-{start}-{probe.adapt}-{i}"]["ood_log_probability"]
            )),
        }
        for probe in tried for start in STARTS for i in range(settings.n_sets)
    ])


def kind_table(tried: Sequence[Probe], kinds: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Exact match in generalisation by kind of item (``item_kinds`` of each set), over all sets.

    Columns: adapt, procedure, kind, items, generalisation.
    """
    rows = []
    each = np.array([kind for part in kinds for kind in part])
    for probe in tried:
        for start in STARTS:
            right = np.concatenate(probe.right[start, "ood"])
            rows += [
                {"adapt": probe.adapt, "procedure": NAMES[start], "kind": kind,
                 "items": int((each == kind).sum()),
                 "generalisation": float(right[each == kind].mean())}
                for kind in dict.fromkeys(each.tolist())
            ]
    return pd.DataFrame(rows)


def item_kinds(pairs: SequencePairs, probe: str) -> list[str]:
    """What is new about each item: for ``mod`` whose slot has a phrase, else its group.

    ``agent`` where the agent's slot has one, mostly as the subject; in training none has, so these
    are the harder items. In the others, passives mostly, the theme or the recipient is the modified
    subject; themes have such phrases in training.
    """
    if probe != "mod":
        return list(pairs.group)
    # VERB ( PREPOSITION ( ... : the first slot is the agent's
    return [
        "agent" if len(target) > 3 and target[3] == "(" else "theme or recipient"
        for target in pairs.target
    ]


def first_table(settings: Settings, found: Found) -> pd.DataFrame:
    """How well the auxiliary and the contrast task were learnt themselves, a row a set."""
    return pd.DataFrame([
        {
            "set": i + 1, "task": start, "memory": found[f"{start}-{i}"]["memory"],
            "in_distribution": float(np.mean(found[f"{start}-{i}"]["dev"])),
            "generalisation": float(np.mean(found[f"{start}-{i}"]["ood"])),
        }
        for start in ("auxiliary", "contrast") for i in range(settings.n_sets)
    ])
