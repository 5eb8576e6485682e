"""Whatever bytes a file holds, a reader reads them or says in one line what is wrong."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from mechprobe.errors import InputError
from tests.fuzz.targets import TOKENS, targets

TARGETS = targets()
_NUMBERS = itertools.count()


def put(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Bytes with pieces replaced: at a share of the length, so many bytes, by what."""
    for place, length, piece in changes:
        at = int(place * len(data))
        data = data[:at] + piece + data[at + length :]
    return data


changes = st.lists(
    st.tuples(
        st.floats(0, 1), st.sampled_from([0, 1, 2, 8, 64, 10_000]),
        st.one_of(st.just(b""), st.sampled_from(TOKENS), st.binary(max_size=4)),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


def refusal(name: str, folder: Path, data: bytes) -> str:
    """What the reader says of these bytes; nothing when it reads them."""
    try:
        TARGETS[name](folder, data)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", TARGETS)
def test_a_good_file_is_read(name, tmp_path):
    said = refusal(name, tmp_path, TARGETS[name].good)
    assert ("no file named model.safetensors" in said) == (name == "hugging face config")


@pytest.mark.parametrize("name", TARGETS)
@seed(0)
@settings(
    max_examples=25, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(changes=changes)
def test_a_spoilt_file_is_read_or_refused_in_one_line(name, changes, tmp_path):
    folder = tmp_path / str(next(_NUMBERS))
    folder.mkdir()
    said = refusal(name, folder, put(TARGETS[name].good, changes))
    assert len(said.splitlines()) <= 1
