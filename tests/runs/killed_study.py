"""A small real study, run in children that are killed just before one chosen file operation.

Called as ``killed_study.py FOLDER [FROM] [STEP]``; prints how many file operations a whole run
makes, and leaves one finished run a kill in FOLDER/kill-N beside the untouched FOLDER/whole.
"""

import os
import signal
import sys
from pathlib import Path

import pandas as pd
import torch

from mechprobe.runs import Run

torch.set_num_threads(1)


def train(run: Run, name: str, seed: int) -> dict:
    """Fit a line with AdamW and noise from torch's own generator; saves its state every 4 steps."""
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    store = run.checkpoint(name)
    done = 0
    if (state := store.load()) is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["noise"])
        done = state["step"]
    for step in range(done + 1, 11):
        loss = (model(torch.randn(5, 3)) - torch.rand(5, 2)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        run.log(name, step, loss=float(loss))
        if step % 4 == 0:
            store.save({
                "step": step, "model": model.state_dict(), "optimiser": optimiser.state_dict(),
                "noise": torch.get_rng_state(),
            })
    run.write_arrays(f"models/{name}.safetensors", model.state_dict())
    return {"loss": float(loss), "weights": [float(w) for w in model.weight.flatten()]}


def study(folder: Path) -> None:
    """Two fits, then a table of both."""
    with Run.open(folder, {"study": "lines", "seed": 0}) as run:
        fits = [run.unit(f"fit-{i}", lambda i=i: train(run, f"fit-{i}", i)) for i in range(2)]
        run.unit("table", lambda: {"file": run.write_table(
            "tables/fits.csv", pd.DataFrame({"loss": [fit["loss"] for fit in fits]})
        ).name})


def in_child(folder: Path, kill_at: int | None) -> tuple[int, int]:
    """Run the study in a child; returns its wait status and the file operations it counted."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def before(event: str, arguments: tuple) -> None:
            nonlocal count
            if event not in ("open", "os.rename", "os.remove", "os.mkdir"):
                return
            if str(folder) not in str(arguments[0]):
                return
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(before)
        study(folder)
        os.write(writer, str(count).encode())
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 100)
    os.close(reader)
    return os.waitpid(child, 0)[1], int(told or 0)


def warm_up() -> None:
    """Import once, before forking, what torch imports at an optimiser's first step."""
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.ones(1)
    torch.optim.AdamW([weight]).step()
    import safetensors.numpy
    import safetensors.torch  # noqa: F401


def main() -> None:
    warm_up()
    folder = Path(sys.argv[1])
    first, stride = int(sys.argv[2]), int(sys.argv[3])
    status, operations = in_child(folder / "whole", None)
    assert status == 0
    for at in range(first, operations + 1, stride):
        own = folder / f"kill-{at}"
        status, _ = in_child(own, at)
        assert os.WIFSIGNALED(status), f"operation {at} was never reached"
        # A second kill at a later moment of the resumed run, then to the end.
        in_child(own, 1 + at % 17)
        status, _ = in_child(own, None)
        assert status == 0, f"the run killed before operation {at} did not finish"
    print(operations)


if __name__ == "__main__":
    main()
