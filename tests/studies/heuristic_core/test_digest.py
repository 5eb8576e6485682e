"""A run goes on only with the data it was begun with."""

from __future__ import annotations

import pytest

from mechprobe.errors import InputError
from mechprobe.runs import Run
from mechprobe.studies.heuristic_core.data import digest, refuse_other_data
from mechprobe.tasks import load_task

SIZES = {"n_train": 20, "n_dev": 10, "n_ood": 2}


def test_the_digest_sees_every_sentence():
    one = load_task("nli/overlap", **SIZES)
    assert digest(one) == digest(load_task("nli/overlap", **SIZES))
    assert digest(one) != digest(load_task("nli/overlap", **SIZES, seed=1))
    assert digest(one) != digest(load_task("nli/overlap", **SIZES | {"n_ood": 3}))


def test_a_run_on_other_data_is_refused(tmp_path):
    one, other = (load_task("nli/overlap", **SIZES, seed=seed) for seed in (0, 1))
    with Run.open(tmp_path, {"study": "x"}) as run:
        refuse_other_data(one, run)
        refuse_other_data(one, run)
        with pytest.raises(InputError, match="holds a run on other data"):
            refuse_other_data(other, run)
