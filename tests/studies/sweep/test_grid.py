"""A sweep's runs: every combination once, each with a folder's name of its own."""

import pytest

from mechprobe.errors import InputError
from mechprobe.studies import STUDIES
from mechprobe.studies.sweep.grid import grid, job_name

CORE = STUDIES["heuristic-core"]


def test_every_combination_is_a_run_and_the_last_axis_varies_fastest():
    jobs = grid(CORE, "tiny", {"seed": (0, 1), "sparsities": ((0.3,), (0.5, 0.7)), "n_masks": (4,)})
    assert [job.name for job in jobs] == [
        "seed=0,sparsities=0.3", "seed=0,sparsities=0.5+0.7",
        "seed=1,sparsities=0.3", "seed=1,sparsities=0.5+0.7",
    ]
    for job in jobs:
        assert (job.settings.n_masks, job.settings.threads) == (4, 1)
        assert {"seed": job.settings.seed, "sparsities": job.settings.sparsities} == job.values
        changed = CORE.settle("tiny", {**job.values, "n_masks": 4, "threads": 1})
        assert job.settings == changed


def test_a_pair_brings_its_own_values_to_each_run():
    first, second = grid(CORE, "real", {"pair": ("mnli-hans", "qqp-paws")}, data_dir="/data")
    assert first.settings.hans_train_share > 0 == second.settings.hans_train_share
    assert first.settings.data_dir == second.settings.data_dir == "/data"
    (own,) = grid(CORE, "real", {"data_dir": ("mine",)}, data_dir="/data")
    assert own.settings.data_dir == "mine"
    assert grid(CORE, "tiny", {}, data_dir="/data")[0].settings.data_dir is None


def test_names_that_no_folder_can_have_become_digests():
    assert job_name({}) == "run"
    assert job_name({"lr": 0.004, "decay": True}) == "lr=0.004,decay=True"
    long, path = job_name({"a": "x" * 200}), job_name({"rules": "/my rules/a.json"})
    assert long != path
    assert all(len(name) == 16 and name.startswith("run-") for name in (long, path))


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"n_mask": (1, 2)}, "has no setting 'n_mask'; nearest: n_masks"),
        ({"preset": ("tiny",)}, "has no setting 'preset'"),
        ({"seed": ()}, "no values for seed"),
        ({"seed": (1, 2, 1)}, "seed has a value twice: 1, 2, 1"),
    ],
)
def test_axes_that_cannot_be_are_refused(axes, said):
    with pytest.raises(InputError, match=said):
        grid(CORE, "tiny", axes)
