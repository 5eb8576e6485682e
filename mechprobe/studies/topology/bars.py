"""What was asked before the study was run: of any data, and of MiniLM on EWT.

The bars of MiniLM come from a first look at other samples.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mechprobe.studies.topology.baselines import CHAIN
from mechprobe.studies.topology.gains import fall, pulled_streams
from mechprobe.studies.topology.results import UNTRAINED, Results
from mechprobe.studies.topology.settings import EWT, Settings

MINILM = "minilm"
FALL = 5.0
"""How many times smaller L_probe was to become where a pull acts."""
FEW = 1_000
"""Training sentences up to which less is asked."""
_AT = "resid.3"
CHECK_BARS = {
    "greedy_wrong": ("greedy labels unlike a plain loop's", "<=", 0),
    "exact_excess": ("exact labels of up to 6 words: error beyond the least of all", "<=", 1e-9),
    "exact_worse": ("rows with a larger error by exact labels than by greedy or a random tree's",
                    "<=", 0),
    "planted_x_sp": ("planted depths: X_sp", "<=", 0.02),
    "planted_nspr": ("planted depths: NSpr. of the X_sp probe", ">=", 0.93),
    "planted_uuas": ("planted distances: UUAS", ">=", 0.99),
    "weights_changed_by_0": ("weights that a pull of weight 0 changes", "<=", 0),
    "gradient_below": ("gradient of L_probe in the blocks before its stream", ">=", 1e-6),
    "gradient_past": ("gradient of L_probe in blocks after its stream", "<=", 0),
    "strong_fall": ("fall of L_probe, a small classifier of word order pulled hard", ">=", FALL),
}
"""Bars of ``checks_unit``: words, direction, bound."""


def has_bars(settings: Settings) -> bool:
    """Whether bars were set for such a run."""
    return settings.encoder == MINILM and settings.treebank == EWT


def margins(settings: Settings) -> tuple[float, float]:
    """UUAS asked for over an untrained model, and over the chain."""
    return (0.18, 0.20) if settings.n_train > FEW else (0.15, 0.10)


def bar_table(results: Results) -> pd.DataFrame:
    """One row a bar: what was asked, what was found, whether it is met; empty for other runs."""
    settings = results.settings
    if not has_bars(settings):
        return pd.DataFrame()

    def at(metric: str, place: str = _AT, model: str = "trained") -> float:
        score = results.score(metric, model)
        return float(score.value()[score.at(place)])

    best, last = results.best(), results.residual()[-1]
    chain = float(results.baselines[CHAIN, "test", "uuas"].value()[0])
    uuas, least = at("uuas", best), 0.65 if settings.n_train > FEW else 0.53
    over_untrained, over_chain = margins(settings)
    n_streams = min(len(results.probes["trained", kind]["streams"]) for kind in ("distance", "sp"))
    rows = [
        *((*bar, results.checks[name]) for name, bar in CHECK_BARS.items() if results.checks),
        ("streams that each probe of the model is trained on together", ">=",
         float(len(results.score("uuas").names)), float(n_streams)),
        (f"UUAS at {best}", ">=", least, uuas),
        ("over untrained", ">=", over_untrained, uuas - at("uuas", best, UNTRAINED)),
        ("over the chain", ">=", over_chain, uuas - chain),
        (f"UUAS at {last}: below the chain", "<=", chain, at("uuas", last)),
        (f"NSpr. of the X_sp probe at {_AT}", ">=", 0.73, at("sp_nspr")),
        (f"root accuracy of the X_sp probe at {_AT}", ">=", 0.58, at("sp_root")),
        (f"linear selectivity at {_AT}", ">=", 0.30, at("upos") - at("upos-control")),
        ("the same, untrained", "<=", 0.10,
         at("upos", _AT, UNTRAINED) - at("upos-control", _AT, UNTRAINED)),
        *((f"fall of L_probe at {stream}", ">=", FALL, fall(results.finetuned, stream))
          for stream in pulled_streams(results.finetuned)),
    ]
    table = pd.DataFrame(rows, columns=["bar", "asked", "bound", "found"])
    above, below = table["found"] >= table["bound"], table["found"] <= table["bound"]
    return table.assign(met=np.where(np.where(table["asked"] == ">=", above, below), "yes", "no"))
