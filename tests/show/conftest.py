"""A finished run, a small model and a browser, for the tests of pages."""

import pytest

from tests.show import texts
from tests.show.chromium import Chromium
from tests.show.finished_run import content, write


@pytest.fixture
def run_folder(tmp_path):
    """A finished run in a folder."""
    write(tmp_path / "run", content())
    return tmp_path / "run"


@pytest.fixture(scope="module")
def decoder():
    """A decoder whose words would break a page that does not escape them."""
    return texts.decoder()


@pytest.fixture
def browser(tmp_path):
    """One page in a browser of its own."""
    opened = Chromium(tmp_path / "profile")
    yield opened
    opened.close()
