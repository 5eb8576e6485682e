"""Files are whole or absent, and what comes back is what went in, to the bit."""

import os
import resource

import numpy as np
import pytest
import torch

from mechprobe.errors import InputError
from mechprobe.runs import Checkpoint, atomic_path, atomic_write
from mechprobe.runs.files import (
    DRAFT,
    read_arrays,
    read_json,
    sweep_drafts,
    to_json,
    write_arrays,
)


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = atomic_write(tmp_path / "deep" / "a.txt", b"old")

    def interrupted():
        with atomic_path(path) as draft:
            draft.write_bytes(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_files_are_as_readable_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        path = atomic_write(tmp_path / "a.txt", b"")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_drafts_of_a_killed_process_are_swept(tmp_path):
    context = atomic_path(tmp_path / "tables" / "a.csv")
    draft = context.__enter__()
    draft.write_bytes(b"half")
    atomic_write(tmp_path / "tables" / "b.csv", b"whole")
    model = tmp_path / "models" / f".step-5{DRAFT}x"  # as save_model names its draft folders
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"half")
    sweep_drafts(tmp_path)
    assert [p.name for p in tmp_path.rglob("*.*")] == ["b.csv"]
    context.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


@pytest.mark.parametrize("place", ["file/below.txt", "/proc/nothing/here.txt"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write .*(below|here)\.txt \(.+\); give a folder"):
        atomic_write(tmp_path / place, b"x")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: atomic_write(path, bytes(10_000)),
        lambda path: write_arrays(path, {"x": np.zeros(10_000)}),
        lambda path: Checkpoint(path).save({"x": torch.zeros(10_000)}),
    ],
    ids=["bytes", "arrays", "checkpoint"],
)
def test_a_full_disk_keeps_the_old_file_and_says_so(tmp_path, write):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot write"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_arrays_of_both_libraries_come_back(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "turned": rng.normal(size=(3, 5)).T, "scalar": np.array(7), "none": np.zeros((0, 4)),
        "flags": rng.random(9) > 0.5, "bytes": np.arange(250, dtype=np.uint8),
    }
    wide = torch.randn(4).bfloat16()
    write_arrays(tmp_path / "a", {**arrays, "tensor": torch.arange(6).reshape(2, 3).T, "b": wide})
    found = read_arrays(tmp_path / "a")
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
    assert found["tensor"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["b"].tolist() == wide.tolist()


def test_json_keeps_floats_and_takes_numpy(tmp_path):
    value = {"x": 0.1 + 0.2, "n": np.int64(3), "a": np.array([0.5, 1 / 3]), "t": torch.ones(2)}
    atomic_write(tmp_path / "a.json", to_json(value))
    assert read_json(tmp_path / "a.json") == {
        "x": 0.1 + 0.2, "n": 3, "a": [0.5, 1 / 3], "t": [1.0, 1.0],
    }
    with pytest.raises(TypeError, match="object"):
        to_json({"x": object()})


@pytest.mark.parametrize("reader", [read_json, read_arrays])
def test_a_truncated_or_missing_file_is_named(tmp_path, reader):
    path = tmp_path / "kept"
    with pytest.raises(InputError, match=r"kept is missing; run the study again"):
        reader(path)
    write_arrays(path, {"x": np.arange(100)})
    content = path.read_bytes() if reader is read_arrays else to_json({"x": list(range(100))})
    for end in (0, 5, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:end])
        with pytest.raises(InputError, match=r"kept is damaged \(.+\); delete this file") as caught:
            reader(path)
        assert "\n" not in str(caught.value)
