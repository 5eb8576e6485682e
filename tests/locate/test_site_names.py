"""Heads given as (layer, head) or as "L0H1" are the heads written "0.1", wherever sites are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mechprobe as mp
from mechprobe.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
QUIET: dict[str, Any] = {"progress": False}
CALLS = {
    "ablate": lambda m, t, sites: mp.ablate(m, t, sites, **QUIET).effects,
    "patch": lambda m, t, sites: mp.patch(m, t, sites, **QUIET).effects,
    "attribute": lambda m, t, sites: mp.attribute(m, t, sites, **QUIET).effects,
    "cumulative": lambda m, t, sites: mp.cumulative(m, t, sites, **QUIET).values,
    "faithfulness": lambda m, t, sites: mp.faithfulness(m, t, sites, sites=sites, **QUIET).alone,
    "nested": lambda m, t, sites: mp.faithfulness(
        m, t, [sites[:1], tuple(sites)], sites=sites, **QUIET
    ).alone,
    "paths": lambda m, t, sites: mp.path_patch(m, t, sites[:1], sites[1:], **QUIET).effects,
    "sets": lambda m, t, sites: mp.random_set_p(m, t, sites, among=[*sites[:2], "0.2", "1.0"],
                                                **QUIET).effects,
    "direct": lambda m, t, sites: mp.direct_logit_attribution(m, t, sites).effects,
    "mask": lambda m, t, sites: mp.head_mask(m, sites),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_same_heads_by_other_names(name, tiny_decoder, token_pairs):
    expected = CALLS[name](tiny_decoder, token_pairs, ["0.1", "1.2"])
    for sites in ([(0, 1), (1, 2)], ["L0H1", "L1H2"]):
        np.testing.assert_array_equal(CALLS[name](tiny_decoder, token_pairs, sites), expected)


def test_other_names_give_the_same_names_back(tiny_decoder, token_pairs):
    scores = mp.ablate(tiny_decoder, token_pairs, [(0, 1), "L1H2"], **QUIET)
    assert scores.sites == ("0.1", "1.2")


@pytest.mark.parametrize("site", [(2, 0), "L0H5"])
def test_a_head_that_is_not_there_names_the_nearest(site, tiny_decoder, token_pairs):
    with pytest.raises(InputError, match="nearest: "):
        mp.ablate(tiny_decoder, token_pairs, [site], **QUIET)
