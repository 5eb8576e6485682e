"""The CUDA C++ sources: run on a CPU, block by block, against PyTorch; and compiled by nvcc."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from mechprobe.gates.kernels import cuda_sources
from mechprobe.gates.kernels.cuda_sources import FOLDER, SOURCES, THREADS
from mechprobe.gates.kernels.gated_add import add_gated, add_gated_back
from mechprobe.gates.kernels.hard_concrete import _hard_concrete

CLOSE = {"rtol": 2e-6, "atol": 2e-6}


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    """Runs a launch of the sources, built by a C++ compiler, with the launch's own arguments."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler (g++ or clang++) to run the sources on a CPU")
    folder = tmp_path_factory.mktemp("cuda")
    whole, library = folder / "whole.cpp", folder / "whole.so"
    includes = [Path(__file__).with_name("run_blocks.h"), *sorted(FOLDER.glob("*.cu"))]
    lines = [f'#include "{path}"' for path in includes] + [f"RUN({name})" for name in SOURCES]
    whole.write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run(
        [compiler, "-std=c++20", "-O1", "-Wall", "-Werror", "-Wno-sign-compare", "-shared", "-fPIC",
         "-pthread", f"-I{FOLDER}", "-o", library, whole],
        check=True,
    )  # fmt: skip
    loaded = ctypes.CDLL(str(library))

    def run(launch):
        values = [
            ctypes.c_void_p(arg.data_ptr()) if isinstance(arg, torch.Tensor)
            else ctypes.c_double(arg) if isinstance(arg, float) else ctypes.c_int(arg)
            for arg in launch.args
        ]
        pointers = [ctypes.cast(ctypes.byref(v), ctypes.c_void_p) for v in values]
        array = (ctypes.c_void_p * len(values))(*pointers)
        getattr(loaded, f"run_{launch.kernel}")(*launch.grid, THREADS, array)

    return run


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sites", [5, 300])
def test_hard_concrete(on_cpu, sites):
    log_alpha = 4 * drawn(3, sites)
    log_alpha[0, :3] = torch.tensor([60.0, -60.0, 0.0])
    u = torch.rand(3, sites, generator=torch.Generator().manual_seed(1)).clamp(1e-6, 1 - 1e-6)
    settings = (-0.1, 1.1, 2 / 3, 1e-6)
    launch, filled = cuda_sources.hard_concrete(log_alpha, u, *settings)
    on_cpu(launch)
    expected = _hard_concrete(log_alpha.double(), u.double(), *settings)
    for got, want in zip(filled, expected, strict=True):
        torch.testing.assert_close(got, want.float(), **CLOSE)
    assert (filled[0] == 0).any()
    assert (filled[0] == 1).any()


CASES = [
    ((0, 1, 2, 3), False, False, (1, 1)), ((1, 3), False, False, (1, 5)),
    ((1, 3), True, True, (2, 5)), ((0, 2, 3), True, False, None),
]  # fmt: skip


def pieces(members, shared_stream, shared_own, stand):
    gates = torch.zeros(4)
    gates[list(members)] = drawn(len(members)).sigmoid()
    stream = drawn(1 if shared_stream else 4, 2, 5, 70, seed=1)
    own = drawn(1 if shared_own else len(members), 2, 5, 70, seed=2)
    return stream, own, gates, None if stand is None else drawn(1, *stand, 70, seed=3), members


@pytest.mark.parametrize("case", CASES)
def test_gated_add(on_cpu, case):
    given = pieces(*case)
    launch, out = cuda_sources.gated_add(*given)
    on_cpu(launch)
    torch.testing.assert_close(out, add_gated(*given), **CLOSE)


@pytest.mark.parametrize("case", [case for case in CASES if not case[2]])
def test_gated_add_backward(on_cpu, case):
    _, own, gates, stand, members = pieces(*case)
    grad = drawn(4, 2, 5, 70, seed=4)
    launch, filled = cuda_sources.gated_add_backward(grad, own, gates, stand, members)
    on_cpu(launch)
    expected = add_gated_back(grad, own, gates, stand, members, into_own=True, into_gates=True)
    torch.testing.assert_close(filled[0], expected[0], **CLOSE)
    torch.testing.assert_close(filled[1], expected[1], rtol=1e-5, atol=1e-5)


def test_nothing_on_a_cpu_goes_through_the_sources(monkeypatch):
    monkeypatch.setenv("MECHPROBE_CUDA_SOURCES", "1")
    assert not cuda_sources.wanted(torch.zeros(1))
    assert not cuda_sources.wanted(torch.zeros(1), None)


def test_every_source_is_known():
    assert set(SOURCES.values()) == {path.name for path in FOLDER.glob("*.cu")}
    for name, source in SOURCES.items():
        assert f"void {name}(" in (FOLDER / source).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("source", sorted(set(SOURCES.values())))
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_nvcc_compiles_every_source(source, target, tmp_path):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on this machine")
    done = subprocess.run(
        [nvcc, "-c", f"-arch={target}", "-Werror", "all-warnings", "-o", tmp_path / "out.o",
         FOLDER / source],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.o").stat().st_size > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_kernels_give_the_same(monkeypatch):
    log_alpha, u = 4 * drawn(3, 300).cuda(), torch.rand(3, 300, device="cuda").clamp(1e-6, 1 - 1e-6)
    settings = (-0.1, 1.1, 2 / 3, 1e-6)
    given = [t.cuda() if isinstance(t, torch.Tensor) else t for t in pieces(*CASES[1])]
    plain = _hard_concrete(log_alpha, u, *settings), add_gated(*given)
    monkeypatch.setenv("MECHPROBE_CUDA_SOURCES", "1")
    assert cuda_sources.wanted(log_alpha, u)
    fused = _hard_concrete(log_alpha, u, *settings), add_gated(*given)
    for got, want in zip(fused[0], plain[0], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused[1], plain[1], rtol=1e-4, atol=1e-5)
