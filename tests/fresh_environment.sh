#!/usr/bin/env bash
# Both README commands, as on a machine that has never seen the project: a clone of the last commit
# in a new folder, its own .venv, empty model caches, no real data; then, where there are real data,
# the tests once more with them, as on CI, but without what only a developer installs (MiniLM).
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=${MECHPROBE_DATA:-$repo/../shared/data}
work=$(mktemp -d "${TMPDIR:-/tmp}/mechprobe-fresh.XXXXXX")
trap 'rm -rf "$work"' EXIT

git clone --quiet --no-hardlinks "$repo" "$work/mechprobe"
cd "$work/mechprobe"
unset VIRTUAL_ENV PYTHONPATH PYTHONHOME MECHPROBE_DATA MAKEFLAGS MFLAGS MAKELEVEL
export HF_HOME="$work/hf" HF_HUB_OFFLINE=1
options=(PYTHON="${PYTHON:-python3}" TORCH_INDEX="${TORCH_INDEX:-}")

make "${options[@]}" PRESET=tiny demo </dev/null
report=runs/heuristic-core-tiny/report.html
[ -s "$report" ] || { echo "fresh environment: make demo left no $report" >&2; exit 1; }
CI=true make "${options[@]}" test </dev/null
installs=$(make "${options[@]}" --dry-run test | grep -c 'pip install' || true)
[ "$installs" = 0 ] || { echo "fresh environment: a second make test installs again" >&2; exit 1; }
[ -z "$(git status --porcelain)" ] || { git status --short >&2
  echo "fresh environment: the two commands left files git does not ignore" >&2; exit 1; }
if [ -d "$data" ]; then MECHPROBE_DATA=$(cd "$data" && pwd) .venv/bin/python -m pytest -q; fi
echo "fresh environment: make demo and make test passed"
