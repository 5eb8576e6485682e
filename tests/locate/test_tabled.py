"""Results show their table, short, at a prompt and in a notebook."""

import numpy as np
import pytest

import mechprobe as mp
from mechprobe.locate.tabled import ROWS
from mechprobe.planted.handmade import induction

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_long_result_is_cut_and_escaped():
    n = 40
    rng = np.random.default_rng(0)
    names = tuple(f"<b>{i}" for i in range(n))
    half = np.arange(10)
    scores = mp.Scores("ablate", names, rng.normal(size=(n, 20)), half, half + 10, "kl", "mean", 3)
    shown = repr(scores)
    assert shown.splitlines()[0] == "Scores, method ablate, metric kl, baseline mean"
    assert len(shown.splitlines()) < ROWS + 6
    assert scores.ranking[0] in shown
    assert "array(" not in shown
    page = scores._repr_html_()
    assert "<table" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_every_result_says_what_it_is():
    case = induction(seed=0)[0]
    assert repr(case.task) == (
        "Behaviour 'induction pair, main': 128 examples of up to 8 tokens, with counterfactuals; "
        "metric accuracy"
    )
    shared = {"baseline": "paired", "seed": 0}
    quiet = {**shared, "progress": False}
    results = [
        mp.find_circuits(case.model, case.task, **shared),
        mp.random_set_p(case.model, case.task, ["0.0"], **quiet),
        mp.cumulative(case.model, case.task, ["0.0", "1.1"], **quiet),
        mp.compare_baselines(case.model, case.task, seed=0, progress=False),
        mp.rank_agreement(case.model, case.task, ("ablate", "noising"), seed=0),
    ]
    for result in results:
        first, head, *_ = repr(result).splitlines()
        assert first.startswith(type(result).__name__)
        assert head.split()[0] == result.table().columns[0]
