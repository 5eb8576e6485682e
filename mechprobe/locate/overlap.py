"""Do two circuits share more sites than chance would make them?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from mechprobe.errors import InputError
from mechprobe.sites import Site, SiteName
from mechprobe.stats import core_distribution, expected_core, jaccard_matrix


def overlaps(
    sets: Mapping[str, Iterable[SiteName]], candidates: Collection[SiteName]
) -> pd.DataFrame:
    """Shared sites of every two sets against random sets of their sizes.

    Args:
        sets: named sets of sites: circuits of one task or of several, tops of rankings.
        candidates: every site that could have been in a set.

    Returns:
        One row a pair, columns first, second, shared, jaccard (intersection over union), expected
        (shared sites of two random sets of these sizes) and p (chance of at least as many,
        hypergeometric, one-sided).

    Raises:
        InputError: a set with a site that is no candidate.
    """
    place = {Site.parse(site): i for i, site in enumerate(candidates)}
    members = {name: np.zeros(len(place), dtype=bool) for name in sets}
    for name, chosen in sets.items():
        for site in map(Site.parse, chosen):
            if site not in place:
                raise InputError(f"{name!r} holds {str(site)!r}, which is not among the candidates")
            members[name][place[site]] = True
    rows = []
    for first, second in combinations(members, 2):
        pair = np.stack([members[first], members[second]])
        sizes = pair.sum(1)
        shared = int(pair.all(0).sum())
        chances = core_distribution(sizes, len(place))
        rows.append({
            "first": first, "second": second, "shared": shared,
            "jaccard": float(jaccard_matrix(pair)[0, 1]),
            "expected": expected_core(sizes, len(place)),
            "p": min(1.0, float(chances[shared:].sum())),
        })
    return pd.DataFrame(rows, columns=["first", "second", "shared", "jaccard", "expected", "p"])
