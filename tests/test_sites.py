"""How sites are written, and the order of a gate vector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mechprobe.errors import InputError
from mechprobe.sites import Site, SiteGrid


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("5.1", Site("head", 5, 1)),
        ("5.*", Site("head", 5)),
        ("mlp.3", Site("mlp", 3)),
        ("mlp.3.17", Site("neuron", 3, 17)),
        ("mlp.3.*", Site("neuron", 3)),
        ("enc 2.0", Site("head", 2, 0, "enc")),
        ("cross 4.7", Site("head", 4, 7, "cross")),
        ("enc mlp.3", Site("mlp", 3, None, "enc")),
        ("dec mlp.0.*", Site("neuron", 0, None, "dec")),
        ("12.11", Site("head", 12, 11)),
    ],
)
def test_a_site_is_written_and_read(text, site):
    assert Site.parse(text) == site
    assert str(site) == text
    assert Site.parse(f" {text} ") == site
    assert Site.parse(site) is site


@pytest.mark.parametrize(
    "text", ["", "5", "5.", ".1", "5.1.2", "mlp", "mlp.x", "mlp.*", "foo 5.1", "5.-1", "5,1", "*.1"]
)
def test_what_is_no_site_is_refused(text):
    with pytest.raises(InputError, match=r"is not a site; write a head as '5\.1'") as caught:
        Site.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("given", [(5, 1), (np.int64(5), np.int64(1)), "L5H1", " L5H1 "])
def test_a_head_may_be_two_numbers_or_letters(given):
    assert Site.parse(given) == Site("head", 5, 1)
    assert SiteGrid(6, 2).index(given) == 11
    assert Site.parse("cross L5H1") == Site("head", 5, 1, "cross")


@pytest.mark.parametrize("given", ["L5", "H1", "L5H", "mlp.L5H1", "blocks.0.attn.hook_z", (-1, 0)])
def test_other_letters_and_hook_names_are_refused(given):
    with pytest.raises(InputError, match=r"is not a site; write a head as '5\.1'"):
        Site.parse(given)


def test_sites_sort_whole_layers_first():
    texts = ["mlp.1", "mlp.0.*", "1.0", "0.10", "0.*", "mlp.0.3", "0.9", "mlp.0"]
    ordered = ["0.*", "0.9", "0.10", "1.0", "mlp.0", "mlp.1", "mlp.0.*", "mlp.0.3"]
    assert [str(s) for s in sorted(map(Site.parse, texts))] == ordered


def test_the_order_of_a_gate_vector():
    grid = SiteGrid(2, 2, n_neurons=3, neurons=True)
    assert [str(s) for s in grid] == [
        "0.0", "0.1", "1.0", "1.1", "mlp.0", "mlp.1",
        "mlp.0.0", "mlp.0.1", "mlp.0.2", "mlp.1.0", "mlp.1.1", "mlp.1.2",
    ]  # fmt: skip
    assert len(grid) == 12
    assert [grid.index(s) for s in grid] == list(range(12))
    assert grid.index("mlp.1.0") == 9
    assert (grid.n_head_sites, grid.n_mlp_sites) == (4, 2)


@pytest.mark.parametrize("heads", [True, False])
@pytest.mark.parametrize("mlps", [True, False])
@pytest.mark.parametrize("neurons", [True, False])
def test_layer_columns_tile_the_gate_vector(heads, mlps, neurons):
    if not (heads or mlps or neurons):
        with pytest.raises(InputError, match="all are switched off"):
            SiteGrid(3, 2, heads=False, mlps=False)
        return
    grid = SiteGrid(3, 2, heads=heads, mlps=mlps, n_neurons=4, neurons=neurons)
    covered = [i for columns in grid.layer_columns.values() for i in range(len(grid))[columns]]
    assert covered == list(range(len(grid)))
    for whole, columns in grid.layer_columns.items():
        inside = grid.sites[columns]
        assert {(s.kind, s.layer) for s in inside} == {(whole.kind, whole.layer)}
        assert whole.index is None
    assert len(grid) == 3 * (2 * heads + mlps + 4 * neurons)


def test_arrays_by_layer():
    grid = SiteGrid(2, 3, n_neurons=2, neurons=True)
    values = np.arange(2 * len(grid)).reshape(2, -1)
    assert grid.head_array(values).shape == (2, 2, 3)
    assert grid.head_array(values[0]).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert grid.mlp_array(values[0]).tolist() == [6, 7]
    assert grid.neuron_array(values[0]).tolist() == [[8, 9], [10, 11]]
    only_mlps = SiteGrid(2, 3, heads=False)
    assert only_mlps.mlp_array(np.array([4, 5])).tolist() == [4, 5]
    assert only_mlps.head_array(np.array([4, 5])).size == 0
    assert SiteGrid(2, 3).neuron_array(np.arange(8)).size == 0


def test_grids_are_equal_when_they_gate_the_same():
    plain = SiteGrid(2, 3)
    assert plain == SiteGrid(2, 3, n_neurons=16)
    assert hash(plain) == hash(SiteGrid(2, 3, n_neurons=16))
    with_neurons = SiteGrid(2, 3, n_neurons=16, neurons=True)
    assert with_neurons != plain
    assert with_neurons != SiteGrid(2, 3, n_neurons=8, neurons=True)
    assert replace(with_neurons, neurons=False) == plain
    assert plain != SiteGrid(2, 3, mlps=False)
    assert plain != SiteGrid(3, 2)
    assert plain != "grid"


def test_masks_close_or_keep():
    grid = SiteGrid(2, 2)
    assert grid.mask().all()
    assert [str(s) for s in grid.select(~grid.mask(closed=["0.1", "mlp.1"]))] == ["0.1", "mlp.1"]
    assert [str(s) for s in grid.select(grid.mask(kept=["1.0"]))] == ["1.0"]
    assert not grid.mask(kept=[]).any()
    with pytest.raises(ValueError, match="argument"):
        grid.select([True])


@pytest.mark.parametrize("site", ["2.0", "0.2", "mlp.2", "0.*", "mlp.0.0", "enc 0.0"])
def test_a_site_outside_the_grid_names_the_nearest(site):
    with pytest.raises(InputError, match="nearest: ") as caught:
        SiteGrid(2, 2, n_neurons=3).index(site)
    message = str(caught.value)
    assert f"no site {site!r} here (2 layers x 2 heads, heads on, MLPs on, neurons off)" in message
    assert "\n" not in message


def test_the_nearest_of_a_wrong_neuron_is_in_its_layer():
    with pytest.raises(InputError, match=r"nearest: .*mlp\.1\.2"):
        SiteGrid(2, 2, n_neurons=3, neurons=True).index("mlp.1.22")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"n_layers": 0, "n_heads": 2}, "0 layers"),
        ({"n_layers": 2, "n_heads": 0}, "0 heads"),
        ({"n_layers": 2, "n_heads": 2, "neurons": True}, "0 neurons"),
    ],
)
def test_a_grid_of_nothing_is_refused(settings, word):
    with pytest.raises(InputError, match=f"{word} to gate; give 1 or more"):
        SiteGrid(**settings)


THREE = SiteGrid(2, 2, n_neurons=3, stacks=("enc", "dec", "cross"))


def test_the_order_of_an_encoder_decoders_gate_vector():
    assert [str(s) for s in THREE] == [
        "enc 0.0", "enc 0.1", "enc 1.0", "enc 1.1", "dec 0.0", "dec 0.1", "dec 1.0", "dec 1.1",
        "cross 0.0", "cross 0.1", "cross 1.0", "cross 1.1",
        "enc mlp.0", "enc mlp.1", "dec mlp.0", "dec mlp.1",
    ]  # fmt: skip
    assert (THREE.n_head_sites, THREE.n_mlp_sites) == (12, 4)
    assert [THREE.index(str(s)) for s in THREE] == list(range(16))
    assert sorted(THREE) == list(THREE)
    every = replace(THREE, neurons=True)
    assert [str(s) for s in every.sites[16:]][::3] == [
        "enc mlp.0.0", "enc mlp.1.0", "dec mlp.0.0", "dec mlp.1.0"
    ]
    covered = [i for columns in every.layer_columns.values() for i in range(len(every))[columns]]
    assert covered == list(range(len(every)))


def test_arrays_of_an_encoder_decoder():
    every = replace(THREE, neurons=True)
    values = np.arange(2 * len(every)).reshape(2, -1)
    heads = every.head_array(values)
    assert heads.shape == (2, 6, 2)
    for row, site in enumerate(every.rows("head")):
        assert heads[1, row].tolist() == values[1, every.layer_columns[site]].tolist()
    for stack, first in (("enc", 0), ("dec", 2), ("cross", 4)):
        assert (every.head_array(values, stack) == heads[:, first : first + 2]).all()
    assert every.mlp_array(values[0]).tolist() == [12, 13, 14, 15]
    assert every.mlp_array(values, "dec").tolist() == (values[:, [14, 15]]).tolist()
    assert every.neuron_array(values[0]).shape == (4, 3)
    assert every.neuron_array(values[0], "dec").tolist() == [[22, 23, 24], [25, 26, 27]]
    with pytest.raises(InputError, match="no mlp sites in a stack 'cross' here; stacks: 'enc', 'd"):
        every.mlp_array(values, "cross")
    with pytest.raises(InputError, match="no head sites in a stack 'enc' here; stacks: ''"):
        SiteGrid(2, 2).head_array(np.arange(6), "enc")


def test_grids_of_some_stacks():
    cross = replace(THREE, stacks=("cross",))
    assert [str(s) for s in cross] == ["cross 0.0", "cross 0.1", "cross 1.0", "cross 1.1"]
    assert cross.mlp_array(np.arange(4)).size == 0
    assert cross == replace(cross, mlps=False)
    assert hash(cross) == hash(replace(cross, mlps=False))
    assert replace(THREE, mlps=False) != THREE
    assert SiteGrid(2, 2) != SiteGrid(2, 2, stacks=("enc",))
    assert replace(THREE, stacks=("cross", "enc", "dec")) == THREE
    assert replace(THREE, stacks=("dec", "enc")).stacks == ("enc", "dec")
    with pytest.raises(InputError, match="cross-attention has no MLPs of its own"):
        replace(cross, heads=False)
    for stacks in ((), ("", "enc"), ("enc", "enc")):
        with pytest.raises(InputError, match="a SiteGrid was given the stacks"):
            replace(THREE, stacks=stacks)


@pytest.mark.parametrize(("site", "near"), [("0.0", "enc 0.0"), ("cross mlp.0", "enc mlp.0")])
def test_a_site_outside_an_encoder_decoder_names_the_nearest(site, near):
    with pytest.raises(InputError, match=r"nearest: .*") as caught:
        THREE.index(site)
    assert f"no site {site!r} here (stacks enc dec cross, each 2 layers x 2 heads" in str(
        caught.value
    )
    assert near in str(caught.value)
