"""``mechprobe locate`` refuses a wrong card or baseline before torch is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mechprobe.errors import InputError
from mechprobe.locate.command import found_model

PROGRAM = """
import sys
from mechprobe.cli import main
status = main(sys.argv[1:])
print(status, "torch" in sys.modules)
"""


@pytest.mark.parametrize(("words", "said"), [
    (["behaviours/ioy"], "behaviours/ioi"),
    (["behaviours/ioi", "--baseline", "means"], "--baseline means; give one of zero, mean"),
])
def test_refused_before_torch_is_imported(words, said):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, "locate", *words], capture_output=True, text=True,
        check=False,
    )
    assert said in run.stderr
    assert run.stdout.split() == ["2", "False"]


def test_without_a_model_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *given: None)
    with pytest.raises(InputError) as caught:
        found_model(tmp_path)
    card = "behaviours/induction-names"
    for word in ("pretrain", "--model NAME_OR_FOLDER", "MECHPROBE_DATA", card):
        assert word in str(caught.value)
