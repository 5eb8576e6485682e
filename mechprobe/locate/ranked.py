"""A ranking of sites as a user gives it: scores, names in order, or sets one inside the next."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

from mechprobe.errors import InputError
from mechprobe.locate.scores import Scores
from mechprobe.sites import Site, SiteName, is_site_name

Ranking: TypeAlias = Scores | Sequence[SiteName] | Sequence[Collection[SiteName]]


def ordered(ranking: Ranking, candidates: list[Site]) -> tuple[list[Site], list[int] | None]:
    """The candidates in order and, for nested sets, the sizes at which a set ends.

    Raises:
        InputError: a ranking that is not one of the candidates, or sets that are not nested.
    """
    if isinstance(ranking, Scores):
        return [Site.parse(name) for name in ranking.ranking], None
    if all(map(is_site_name, ranking)):
        order = [Site.parse(item) for item in ranking]  # pyright: ignore[reportArgumentType]
        if set(order) != set(candidates) or len(order) != len(candidates):
            strange = [site for site in order if site not in candidates]
            odd = next(iter([*strange, *sorted(set(candidates) - set(order))]), "one of them twice")
            raise InputError(
                f"the ranking names {len(order)} sites for {len(candidates)} candidates (first "
                f"that differs: {odd}); rank each candidate once, or give sites="
            )
        return order, None
    order, cuts = [], []
    for chosen in ranking:
        nested = {Site.parse(site) for site in chosen}  # pyright: ignore[reportGeneralTypeIssues]
        if outside := nested - set(candidates):
            raise InputError(f"a set holds {min(outside)}, which is not among the candidates")
        if not nested >= set(order):
            raise InputError("the sets are not nested; give each set inside the next")
        order += sorted(nested - set(order))
        cuts.append(len(order))
    return order + [site for site in candidates if site not in order], cuts
