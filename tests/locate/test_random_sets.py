"""Sets against random sets: which sets are drawn, their effects, and p under the null."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.locate.behaviours import behaviour_of
from mechprobe.locate.random_sets import SetTest, equal_sets, random_set_p
from mechprobe.sites import Site, SiteGrid

pytestmark = pytest.mark.usefixtures("one_thread")
QUIET: dict[str, Any] = {"progress": False}
GRID = SiteGrid(6, 8)
POOL = list(GRID.sites)


def parse(*names):
    return [Site.parse(name) for name in names]


def test_random_sets_have_as_many_of_each_kind():
    sets, exact = equal_sets(parse("1.1", "4.2", "mlp.3"), POOL, 300, same_layers=False)
    assert not exact
    assert len(sets) == 300
    for drawn in sets:
        assert [site.kind for site in drawn] == ["head", "head", "mlp"]
        assert len(set(drawn)) == 3
    share = np.mean([Site("head", 0, 0) in drawn for drawn in sets])
    assert abs(share - 2 / 48) < 0.035
    assert sets == equal_sets(parse("1.1", "4.2", "mlp.3"), POOL, 300, same_layers=False)[0]
    assert sets != equal_sets(parse("1.1", "4.2", "mlp.3"), POOL, 300, same_layers=False, seed=1)[0]


def test_same_layers_keeps_the_number_in_each_layer():
    sets, _ = equal_sets(parse("1.1", "1.2", "4.2"), POOL, 150, same_layers=True)
    assert all(sorted(site.layer for site in drawn) == [1, 1, 4] for drawn in sets)


def test_few_possible_sets_are_all_taken():
    pool = parse("0.0", "0.1", "1.0", "1.1")
    sets, exact = equal_sets(parse("0.0", "1.1"), pool, 100, same_layers=False)
    assert exact
    assert {frozenset(s) for s in sets} == {frozenset(c) for c in combinations(pool, 2)}
    layered, exact = equal_sets(parse("0.0", "1.1"), pool, 100, same_layers=True)
    assert exact
    assert len(layered) == 4


def test_a_set_is_compared_with_every_other_by_hand(tiny_decoder, token_pairs, hand,
                                                   count_passes):  # fmt: skip
    behaviour = behaviour_of(tiny_decoder, token_pairs)
    found, passes = count_passes(
        tiny_decoder, 10,
        lambda: random_set_p(tiny_decoder, behaviour, ["0.1", "1.2"], "mean", **QUIET),
    )  # fmt: skip
    stands = hand.stand_ins(tiny_decoder, behaviour, "mean")
    intact = hand.closed_values(tiny_decoder, behaviour, [], stands)
    heads = [f"{layer}.{head}" for layer in range(2) for head in range(3)]
    every = [
        (intact - hand.closed_values(tiny_decoder, behaviour, pair, stands)).mean()
        for pair in combinations(heads, 2)
    ]
    own = intact - hand.closed_values(tiny_decoder, behaviour, ["0.1", "1.2"], stands)
    np.testing.assert_allclose(found.effects, own, rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.sort(found.null), np.sort(every), rtol=0, atol=1e-9)
    assert found.exact
    assert found.p == pytest.approx(np.mean([e >= own.mean() - 1e-9 for e in every]))
    assert found.effect.estimate == pytest.approx(own.mean())
    assert found.forwards == passes - 1 == 2 + 15 + 1


def test_p_of_a_random_set_is_uniform():
    """With effects that are a sum over sites, p of sets drawn at random is uniform."""
    rng = np.random.default_rng(0)
    size = dict(zip(POOL, rng.normal(size=len(POOL)), strict=True))
    p = []
    for seed in range(400):
        sites = [POOL[i] for i in rng.choice(48, 4, replace=False)]
        sets, exact = equal_sets(sites, POOL, 100, same_layers=False, seed=seed)
        null = np.array([sum(size[s] for s in drawn) for drawn in sets])
        effects = np.full(3, sum(size[s] for s in sites))
        p.append(SetTest(tuple(map(str, sites)), effects, null, exact, "m", "zero", 0).p)
    for level in (0.05, 0.25, 0.5, 0.75):
        assert abs((np.array(p) <= level).mean() - level) < 3.5 * np.sqrt(level * (1 - level) / 400)


def test_what_cannot_be_compared_is_refused(tiny_decoder, token_pairs):
    for sites, settings, message in (
        (["0.0"], {"n_sets": 99}, "99 random sets are too few for a p-value; give 100 or more"),
        (["0.*", "1.*"], {}, "these are all the sites there are of their kind; no other set of 6"),
        (["0.*"], {"same_layers": True}, "of their kind and layer; no other set of 3"),
        (["0.0"], {"among": "mlps"}, r"0\.0 is not among the sites that random sets are drawn"),
        (["3.0"], {}, r"no site '3\.0' here"),
    ):
        with pytest.raises(InputError, match=message):
            random_set_p(tiny_decoder, token_pairs, sites, **settings, **QUIET)


def test_table_picture_and_file(tiny_decoder, token_pairs, tmp_path):
    found = random_set_p(tiny_decoder, token_pairs, ["0.1", "mlp.1"], "zero", **QUIET)
    (row,) = found.table().to_dict("records")
    assert (row["set"], row["size"]) == ("0.1 mlp.1", 2)
    assert row["observed"] == pytest.approx(found.effects.mean())
    assert row["expected"] == pytest.approx(found.null.mean())
    texts = [text.get_text() for text in found.plot().axes[0].texts]
    assert any(f"{found.p:.3f}"[1:] in text for text in texts)
    again = SetTest.load(found.save(tmp_path))
    np.testing.assert_array_equal(again.null, found.null)
    assert (again.sites, again.exact, again.p) == (found.sites, found.exact, found.p)
