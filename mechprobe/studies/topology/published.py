"""What the authors' committed logs say, for comparison beside a run's own numbers.

BERT-large-uncased, X at the outputs of blocks (0: embeddings), computed from the logs in the
repository of Li, Yin and Lin 2023 (cclx/Effective_Metrics): X_ssp and X_essp on sentences of CoLA,
MRPC, RTE and STS-B, X_sp on dependency trees. The text of the paper's theorems and tables was not
available to us.
"""

from __future__ import annotations

import pandas as pd

_ROWS = (  # block, ssp train, ssp val, sp train, sp val, essp train, essp val
    (0, 0.0383, 0.0396, 0.3084, 1.5249, 5.354, 5.382),
    (1, 0.0159, 0.0176, 0.2645, 1.5764, 0.530, 0.537),
    (4, 0.0317, 0.0336, 0.1702, 1.1526, 0.345, 0.352),
    (8, 0.0089, 0.0103, 0.1425, 1.0779, 0.340, 0.347),
    (12, 0.0516, 0.0543, 0.0975, 0.7874, 0.382, 0.392),
    (14, 0.0796, 0.0841, 0.0651, 0.6232, 0.448, 0.467),
    (15, 0.0831, 0.0881, 0.0617, 0.5737, 0.498, 0.525),
    (16, 0.0844, 0.0900, 0.0657, 0.5179, 0.620, 0.663),
    (17, 0.0804, 0.0862, 0.0808, 0.5342, 0.739, 0.785),
    (20, 0.0859, 0.0923, 0.1615, 0.6785, 0.984, 1.045),
    (24, 0.1007, 0.1139, 0.3280, 1.2334, 1.706, 1.837),
)
_FINETUNED = (("plain", 0.6335, 0.0171), ("resid.5", 0.6391, 0.0128), ("resid.9", 0.6356, 0.0218),
              ("resid.11", 0.6396, 0.0181))
_STRUCTURAL = (  # Hewitt and Manning 2019, PTB
    ("BERT-large block 15", 0.825, 0.86), ("BERT-large block 16", 0.817, 0.87),
    ("BERT-base block 7", 0.798, 0.85), ("ELMo layer 1", 0.770, 0.83),
    ("linear chain", 0.489, 0.58),
)


def published_metrics() -> pd.DataFrame:
    """X_ssp, X_sp and X_essp of BERT-large by block, in training and validation."""
    columns = ["layer", "ssp train", "ssp val", "sp train", "sp val", "essp train", "essp val"]
    return pd.DataFrame(_ROWS, columns=columns)


def published_finetuning() -> pd.DataFrame:
    """CoLA Matthews' correlation of BERT-large, mean and sd of 10 seeds."""
    return pd.DataFrame(_FINETUNED, columns=["condition", "mcc", "sd"])


def published_structural() -> pd.DataFrame:
    """Structural probes on the Penn Treebank."""
    return pd.DataFrame(_STRUCTURAL, columns=["vectors", "uuas", "dspr"])
