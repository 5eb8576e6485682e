"""run_study: what is wrong is said before any work; a finished run is what the command leaves."""

import pandas as pd
import pytest

import mechprobe as mp
from mechprobe.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_study_runs_from_python(tmp_path):
    folder = mp.run_study(
        "heuristic-core", "tiny", tmp_path / "run", n_train=60, n_dev=40, n_ood=10,
        mask_examples=40, n_layers=2, n_heads=2, d_model=16, d_mlp=12, train_steps=2,
        checkpoints=(1.0,), mask_steps=4, n_masks=2, n_null=20, n_random_sets=2, n_models=1,
    )
    assert folder == tmp_path / "run"
    assert (folder / "report.html").is_file()
    assert len(pd.read_csv(folder / "tables" / "subnetworks.csv")) >= 2


@pytest.mark.parametrize(("arguments", "settings", "said"), [
    (("heuristic-cor",), {}, "heuristic-core"),
    (("heuristic-core", "lapto"), {}, "laptop"),
    (("heuristic-core", "tiny"), {"n_mask": 3}, "n_masks"),
    (("heuristic-core", "tiny"), {"sparsities": (2.0,)}, "sparsit"),
])
def test_a_wrong_name_or_value_is_refused_with_the_nearest(tmp_path, arguments, settings, said):
    with pytest.raises(InputError, match=said):
        mp.run_study(*arguments, out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
