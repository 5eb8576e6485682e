"""What was asked of MiniLM on EWT before the study was run, from a first look at other samples."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mechprobe.studies.topology.baselines import CHAIN
from mechprobe.studies.topology.gains import fall, pulled_streams
from mechprobe.studies.topology.results import UNTRAINED, Results
from mechprobe.studies.topology.settings import EWT

MINILM = "minilm"
_AT = "resid.3"


def bar_table(results: Results) -> pd.DataFrame:
    """One row a bar: what was asked, what was found, whether it is met; empty for other runs."""
    settings = results.settings
    if settings.encoder != MINILM or settings.treebank != EWT:
        return pd.DataFrame()

    def at(metric: str, place: str = _AT, model: str = "trained") -> float:
        score = results.score(metric, model)
        return float(score.value()[score.at(place)])

    best, last = results.best(), results.residual()[-1]
    chain = float(results.baselines[CHAIN, "test", "uuas"].value()[0])
    uuas, asked = at("uuas", best), settings.n_train >= 2_000
    rows = [
        (f"UUAS at {best}", ">=", 0.65 if asked else 0.53, uuas),
        ("over untrained", ">=", 0.18 if asked else 0.15, uuas - at("uuas", best, UNTRAINED)),
        ("over the chain", ">=", 0.20 if asked else 0.10, uuas - chain),
        (f"UUAS at {last}: below the chain", "<=", chain, at("uuas", last)),
        (f"NSpr. of the X_sp probe at {_AT}", ">=", 0.73, at("sp_nspr")),
        (f"root accuracy of the X_sp probe at {_AT}", ">=", 0.58, at("sp_root")),
        (f"linear selectivity at {_AT}", ">=", 0.30, at("upos") - at("upos-control")),
        ("the same, untrained", "<=", 0.10,
         at("upos", _AT, UNTRAINED) - at("upos-control", _AT, UNTRAINED)),
        *((f"fall of L_probe at {stream}", ">=", 5.0, fall(results.finetuned, stream))
          for stream in pulled_streams(results.finetuned)),
    ]
    table = pd.DataFrame(rows, columns=["bar", "asked", "bound", "found"])
    least, most = table["found"] >= table["bound"], table["found"] <= table["bound"]
    return table.assign(met=np.where(np.where(table["asked"] == ">=", least, most), "yes", "no"))
