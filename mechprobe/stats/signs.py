"""Whether paired differences have mean zero: their signs flipped at random."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mechprobe.errors import InputError

_CELLS = 4_000_000


def sign_flip_p(
    differences: Float[np.ndarray, "*test example"], *, seed: int = 0, n: int = 10_000
) -> Float[np.ndarray, "*test"]:
    """Two-sided p of each row of paired differences under random signs (Fisher 1935).

    Exact over all sign patterns when there are at most ``n`` of them, else n random ones counted
    as in Phipson and Smyth 2010. The same signs serve every row. A row of zeros gives 1.

    Raises:
        InputError: no examples, or NaN among them.
    """
    values = np.asarray(differences, dtype=float)
    size = values.shape[-1]
    if size == 0 or np.isnan(values).any():
        raise InputError(
            f"a sign test needs numbers; got {size} examples, {int(np.isnan(values).sum())} NaN"
        )
    rows = values.reshape(-1, size)
    observed = np.abs(rows.sum(1))
    slack = 1e-9 * np.abs(rows).sum(1)  # what differs by rounding only counts as equal
    exact = size < 60 and 2**size <= n
    draws = 2**size if exact else n
    rng = np.random.default_rng(seed)
    hits = np.zeros(len(rows), dtype=np.int64)
    chunk = max(1, _CELLS // max(size, len(rows)))
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        if exact:
            bits = (np.arange(start, start + count)[:, None] >> np.arange(size)) & 1
        else:
            bits = rng.integers(0, 2, size=(count, size), dtype=np.int8)
        null = np.abs((2.0 * bits - 1.0) @ rows.T)
        hits += (null >= observed - slack).sum(0)
    p = hits / draws if exact else (1 + hits) / (1 + draws)
    return p.reshape(values.shape[:-1])
