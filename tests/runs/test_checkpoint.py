"""A saved state comes back exactly, so that work goes on as if it had never stopped."""

import math

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.runs import Checkpoint


def test_every_kind_of_value_comes_back_as_it_was(tmp_path):
    store = Checkpoint(tmp_path / "deep" / "a.safetensors")
    rng = np.random.default_rng(5)
    rng.normal(size=3)
    shared = torch.arange(4.0)
    state = {
        "int": 2**70, "float": 0.1 + 0.2, "tiny": 5e-324, "inf": -math.inf, "text": "ü \" \n",
        "none": None, "true": True, 7: "int key", (1, "a"): "tuple key", "empty": [(), {}, []],
        "rng": rng.bit_generator.state, "tuple": (0.9, [1, (2.5,)]), "dict": {"dict": [1]},
        "noise": torch.get_rng_state(), "half": torch.randn(3).bfloat16(),
        "turned": torch.arange(6).reshape(2, 3).T, "scalar": torch.tensor(3.5),
        "no": torch.zeros(0),
        "tied": [shared, shared, shared[1:]], "array": np.arange(3, dtype=np.int16),
        "single": np.float32(0.1), "flag": np.array(True),
    }
    store.save(state)
    found = store.load()
    assert found is not None
    assert list(found) == list(state)
    for key, value in state.items():
        if isinstance(value, torch.Tensor | np.ndarray | np.generic):
            assert type(found[key]) is type(value)
            assert found[key].dtype == value.dtype
            assert found[key].shape == value.shape
            assert bytes(np.asarray(torch.as_tensor(found[key]).float())) == bytes(
                np.asarray(torch.as_tensor(value).float())
            )
        elif key == "tied":
            assert [t.tolist() for t in found[key]] == [t.tolist() for t in value]
        else:
            assert found[key] == value
            assert type(found[key]) is type(value)


def test_not_a_number_stays_one(tmp_path):
    store = Checkpoint(tmp_path / "a")
    store.save({"x": math.nan})
    assert math.isnan(store.load()["x"])


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
def test_training_goes_on_with_the_same_bits(tmp_path, kind):
    def fresh():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.3))
        return model, kind(model.parameters(), lr=0.05)

    def steps(model, optimiser, n):
        for _ in range(n):
            optimiser.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimiser.step()

    model, optimiser = fresh()
    steps(model, optimiser, 5)
    store = Checkpoint(tmp_path / "a")
    store.save({"m": model.state_dict(), "o": optimiser.state_dict(), "r": torch.get_rng_state()})
    steps(model, optimiser, 5)
    again, other = fresh()
    torch.randn(100)
    state = store.load()
    again.load_state_dict(state["m"])
    other.load_state_dict(state["o"])
    torch.set_rng_state(state["r"])
    steps(again, other, 5)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_absent_deleted_and_replaced(tmp_path):
    store = Checkpoint(tmp_path / "a.safetensors")
    assert store.load() is None
    store.delete()
    store.save({"x": 1})
    store.save({"x": 2})
    assert store.load() == {"x": 2}
    store.delete()
    assert store.load() is None
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_checkpoint_is_named(tmp_path):
    store = Checkpoint(tmp_path / "fit-3.safetensors")
    store.save({"x": torch.arange(50), "step": 4})
    content = store.path.read_bytes()
    for end in (0, 4, 60, len(content) - 1):
        store.path.write_bytes(content[:end])
        with pytest.raises(InputError, match=r"fit-3\.safetensors is damaged \(.+\); delete"):
            store.load()


def test_a_file_of_another_kind_is_refused(tmp_path):
    from safetensors.torch import save_file

    store = Checkpoint(tmp_path / "model.safetensors")
    save_file({"x": torch.ones(2)}, store.path)
    with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
        store.load()


def test_what_cannot_be_kept_is_named_by_its_place(tmp_path):
    with pytest.raises(TypeError, match=r"function \(state\['a'\]\[1\]\)"):
        Checkpoint(tmp_path / "a").save({"a": [1, lambda: 0]})
    assert not (tmp_path / "a").exists()
