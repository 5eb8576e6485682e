"""Coverage-guided fuzzing of one reader (atheris, the extra ``fuzz``), from the repository's root:

    python -m tests.fuzz.coverage_guided conllu -max_total_time=60

Stops at the first input that is neither read nor refused in one line, and leaves it in the folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mechprobe.tasks", "mechprobe.sites"]):
    from mechprobe.errors import InputError
    from tests.fuzz.targets import TOKENS, targets


def main(argv: list[str]) -> None:
    """Fuzz the reader named first; the rest goes to libFuzzer."""
    found = targets()
    if len(argv) < 2 or argv[1] not in found:
        sys.exit(f"name one of: {', '.join(found)}")
    target, folder = found[argv[1]], Path(tempfile.mkdtemp())

    def once(data: bytes) -> None:
        try:
            target(folder, data)
        except InputError as error:
            if len(str(error).splitlines()) != 1:
                raise AssertionError(f"a refusal of several lines: {error}") from error

    corpus = Path(tempfile.mkdtemp())
    (corpus / "good").write_bytes(target.good)
    words = corpus.with_suffix(".dict")
    escaped = ("".join(f"\\x{byte:02x}" for byte in token) for token in TOKENS)
    words.write_text("".join(f'"{token}"\n' for token in escaped))
    atheris.Setup([argv[0], *argv[2:], f"-dict={words}", str(corpus)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
