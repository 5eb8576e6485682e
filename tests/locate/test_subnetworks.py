"""Sets of subnetworks: sharing counted by hand, files that come back whole, and clear refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.numpy import save_file

from mechprobe.errors import InputError
from mechprobe.locate.subnetworks import SET_FILE, Subnetwork, SubnetworkSet
from mechprobe.sites import Site, SiteGrid

GRID = SiteGrid(2, 3)


def subnetwork(kept, *, seed=0, target=0.5, grid=GRID, **scores):
    binary = grid.mask(kept=kept.split())
    rng = np.random.default_rng(seed)
    return Subnetwork(
        soft=(binary * rng.random(len(grid))).astype(np.float32),
        binary=binary,
        log_alpha=rng.normal(size=len(grid)).astype(np.float32),
        sites=grid,
        sparsity_target=target,
        sparsity=float(1 - binary.mean()),
        seed=seed,
        settings={"rule": "expected", "steps": 500, "baseline": "mean"},
        scores=scores,
    )


@pytest.fixture
def nets():
    return SubnetworkSet((
        subnetwork("0.0 0.1 1.0 mlp.0 mlp.1", seed=0, accuracy=0.9),
        subnetwork("0.0 1.0 1.1 mlp.0 mlp.1", seed=1, accuracy=0.8),
        subnetwork("0.0 0.2 1.0 mlp.1", seed=2, accuracy=0.7),
        subnetwork("0.0 1.2", seed=0, target=0.75, accuracy=0.6),
    ))


def test_kept_sites_and_gates_of_one():
    net = subnetwork("0.1 1.2 mlp.1")
    assert [str(s) for s in net.heads] == ["0.1", "1.2"]
    assert net.mlps == [Site("mlp", 1)]
    assert net.gates().dtype == torch.float32
    assert net.gates().tolist() == [0, 1, 0, 0, 0, 1, 0, 1]
    np.testing.assert_array_equal(net.gates("soft").numpy(), net.soft)
    scored = net.with_scores({"kl": 0.1}).with_scores({"accuracy": 0.8})
    assert scored.scores == {"kl": 0.1, "accuracy": 0.8}
    assert net.scores == {}


def test_the_core_is_what_enough_members_keep(nets):
    half = nets.where(sparsity=0.5)
    assert [str(s) for s in half.core()] == ["0.0", "1.0"]
    assert [str(s) for s in half.core(mlps=True)] == ["0.0", "1.0", "mlp.1"]
    assert [str(s) for s in nets.core()] == ["0.0"]
    assert [str(s) for s in half.core(1 / 3)] == ["0.0", "0.1", "0.2", "1.0", "1.1"]
    assert [str(s) for s in half.core(2 / 3, mlps=True)] == ["0.0", "1.0", "mlp.0", "mlp.1"]
    np.testing.assert_allclose(
        half.frequency(), [1, 1 / 3, 1 / 3, 1, 1 / 3, 0, 2 / 3, 1]
    )


def test_an_encoder_decoders_subnetworks_keep_their_stacks_in_the_file(tmp_path):
    grid = SiteGrid(2, 3, stacks=("enc", "dec", "cross"))
    kept = ["enc 0.0", "cross 1.2", "dec mlp.1"]
    net = replace(subnetwork("", grid=grid), binary=grid.mask(kept=kept))
    loaded = Subnetwork.load(net.save(tmp_path / "net.safetensors"))
    assert loaded.sites == grid
    assert [str(site) for site in loaded.kept] == kept
    plain = SiteGrid(2, 3)
    assert Subnetwork.load(subnetwork("0.1").save(tmp_path / "one.safetensors")).sites == plain


def test_the_same_layer_of_two_stacks_is_two_layers():
    grid = SiteGrid(2, 4, mlps=False, stacks=("enc", "dec"))
    members = [
        replace(subnetwork("", grid=grid, seed=seed), binary=grid.mask(kept=kept))
        for seed, kept in enumerate([["enc 0.0", "enc 0.1"], ["enc 0.0", "enc 0.2"]])
    ]
    table = SubnetworkSet(tuple(members)).overlap(n_null=50).set_index(["statistic", "null"])
    # two of the four heads of one layer, against two heads of all sixteen
    assert table.expected["core size", "same layers"] == pytest.approx(4 * (2 / 4) ** 2)
    assert table.expected["core size", "any layer"] == pytest.approx(16 * (2 / 16) ** 2)


def test_similarity_is_over_heads(nets):
    kept = [{str(s) for s in net.heads} for net in nets]
    expected = [[len(a & b) / len(a | b) for b in kept] for a in kept]
    np.testing.assert_allclose(nets.jaccard(), expected)


def test_clustering_puts_similar_members_side_by_side():
    a, b = "0.0 0.1 0.2", "1.0 1.1 1.2"
    mixed = SubnetworkSet(tuple(subnetwork(k, seed=i) for i, k in enumerate([a, b, a, b, a])))
    order = mixed.cluster()
    assert sorted(order) == list(range(5))
    kinds = ["ababa"[i] for i in order]
    assert kinds in (list("aaabb"), list("bbaaa"))
    assert mixed.where(seed=[0, 1]).cluster().tolist() == [0, 1]


def test_table_and_selection(nets):
    table = nets.table()
    assert list(table.columns) == ["seed", "target", "sparsity", "heads", "mlps", "accuracy"]
    assert table["heads"].tolist() == [3, 3, 3, 2]
    assert table["mlps"].tolist() == [2, 2, 1, 0]
    assert nets.sparsities == [0.5, 0.75]
    assert len(nets.where(seed=0)) == 2
    assert nets.where(sparsity=0.75, seed=[0, 5])[0] is nets[3]
    assert [net.seed for net in nets] == [0, 1, 2, 0]


def test_overlap_compares_with_random_sets_of_the_same_sizes(nets):
    table = nets.where(sparsity=0.5).overlap(seed=1, n_null=400).set_index(["statistic", "null"])
    core = table.loc[("core size", "any layer")]
    assert core["observed"] == 2
    assert core["expected"] == pytest.approx(6 * (3 / 6) ** 3)
    layers = table.loc[("core size", "same layers")]
    assert layers["expected"] == pytest.approx(3 * (2 * 1 * 2 + 1 * 2 * 1) / 27)
    assert table.loc[("mean Jaccard", "any layer"), "observed"] == pytest.approx(0.5)
    assert (table["null_low"] <= table["expected"]).all()
    assert (table["expected"] <= table["null_high"]).all()


def test_overlap_can_count_mlps_as_their_own_stratum(nets):
    row = nets.where(sparsity=0.5).overlap(n_null=50, mlps=True).iloc[0]
    assert row["observed"] == 3
    assert row["expected"] == pytest.approx(6 / 8 + 2 * 1 * 1 * 0.5)


def test_a_grid_of_mlps_alone_works():
    grid = SiteGrid(4, 3, heads=False)
    nets = SubnetworkSet((
        subnetwork("mlp.0 mlp.2", grid=grid), subnetwork("mlp.0 mlp.1", grid=grid, seed=1)
    ))
    assert nets.core() == []
    assert nets.core(mlps=True) == [Site("mlp", 0)]
    assert nets.jaccard()[0, 1] == pytest.approx(1 / 3)
    assert nets.overlap(n_null=50)["observed"].tolist() == pytest.approx([1, 1 / 3])
    assert isinstance(nets.plot_frequency(), Figure)


def test_a_planted_core_stands_out_and_none_does_not():
    grid = SiteGrid(6, 8, mlps=False)
    heads = [str(s) for s in grid]
    rng = np.random.default_rng(0)
    planted = heads[::8]
    others = [head for head in heads if head not in planted]

    def draw(with_core, seed):
        rest = rng.permutation(others if with_core else heads)[: 18 if with_core else 24]
        return subnetwork(" ".join([*(planted if with_core else []), *rest]), grid=grid, seed=seed)

    cored = SubnetworkSet(tuple(draw(True, i) for i in range(10)))
    random = SubnetworkSet(tuple(draw(False, i) for i in range(10)))
    assert {str(s) for s in cored.core()} == set(planted)
    assert (cored.overlap(n_null=300)["p"] < 0.01).all()
    assert (random.overlap(n_null=300)["p"] > 0.01).all()


def test_files_come_back_bit_for_bit(nets, tmp_path):
    loaded = SubnetworkSet.load(nets.save(tmp_path / "new" / "set"))
    one = Subnetwork.load(nets[2].save(tmp_path / "one.safetensors"))
    for before, after in [*zip(nets, loaded, strict=True), (nets[2], one)]:
        for name in ("soft", "binary", "log_alpha"):
            old, new = getattr(before, name), getattr(after, name)
            assert new.dtype == old.dtype
            np.testing.assert_array_equal(new, old)
        for name in ("sites", "sparsity_target", "sparsity", "seed", "settings", "scores"):
            assert getattr(after, name) == getattr(before, name)
    assert [p.name for p in (tmp_path / "new" / "set").iterdir()] == [SET_FILE]


def test_what_is_no_saved_set_is_refused(nets, tmp_path):
    with pytest.raises(InputError, match="no subnetworks at"):
        SubnetworkSet.load(tmp_path)
    (tmp_path / SET_FILE).write_bytes(b"half a file")
    with pytest.raises(InputError, match="cannot be read"):
        SubnetworkSet.load(tmp_path)
    save_file({"weight": np.zeros(3)}, tmp_path / SET_FILE)
    with pytest.raises(InputError, match="no file of subnetworks"):
        SubnetworkSet.load(tmp_path)
    nets.save(tmp_path)
    with pytest.raises(InputError, match=r"SubnetworkSet\.load"):
        Subnetwork.load(tmp_path / SET_FILE)
    whole = (tmp_path / SET_FILE).read_bytes()
    (tmp_path / SET_FILE).write_bytes(whole[:-8])
    with pytest.raises(InputError, match="cannot be read"):
        SubnetworkSet.load(tmp_path)


def test_wrong_input_is_named(nets, tmp_path):
    with pytest.raises(InputError, match=r"sparsities \[0.5, 0.75\] and seeds \[0, 1, 2\]"):
        nets.where(sparsity=0.6)
    with pytest.raises(InputError, match="at least one"):
        SubnetworkSet(())
    with pytest.raises(InputError, match="different sites"):
        SubnetworkSet((nets[0], subnetwork("0.0", grid=SiteGrid(2, 4))))
    with pytest.raises(InputError, match="7 gates, the model has 8 sites"):
        Subnetwork(
            np.zeros(7, np.float32), np.zeros(7, bool), np.zeros(7, np.float32), GRID, 0.5, 0.5, 0
        )
    with pytest.raises(InputError, match="'hard'"):
        nets[0].gates("hard")
    with pytest.raises(InputError, match=r"\(0, 1\]"):
        nets.core(1.5)
    odd = Subnetwork(
        nets[0].soft, nets[0].binary, nets[0].log_alpha, GRID, 0.5, 0.5, 0, {"device": GRID}
    )
    with pytest.raises(InputError, match="plain JSON"):
        odd.save(tmp_path / "odd.safetensors")


def test_pictures_show_every_sparsity(nets):
    titles = [axes.get_title(loc="left") for axes in nets.plot_frequency().axes]
    assert titles[:2] == ["50 % closed (3 subnetworks)", "75 % closed (1 subnetworks)"]
    labels = [t.get_text() for t in nets.plot().axes[0].get_yticklabels()]
    assert sorted(labels) == ["0 (50 %)", "0 (75 %)", "1 (50 %)", "2 (50 %)"]
