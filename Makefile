# make run | make test | make lab | make app: each does all its own set-up first, once.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin

.PHONY: run test browser lab app lint types clean

run: $(READY)
	$(BIN)/dmf-lab run

test: $(READY) lint types browser
	$(BIN)/python -m pytest tests
	OMP_NUM_THREADS=1 LABKIT_STEPS=30 $(BIN)/python -m pytest --nbval --nbval-current-env --nbval-sanitize-with tests/sanitize.cfg \
		--nbval-cell-timeout 600 -p no:cacheprovider notebooks/[0-9]*.ipynb

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

# The Chromium that the widget's tests drive: the machine's own, Debian's package, or Playwright's.
browser: $(READY)
	$(BIN)/python tests/helpers/browser.py

# Opens notebook 0, with the repository for its root; on this machine only, and it asks for the token it prints.
lab: $(READY)
	$(BIN)/jupyter lab --ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root) \
		--LabApp.default_url=/lab/tree/notebooks/00_start.ipynb

# The explorer alone, as `dmf-lab export-explorer` wrote it; on this machine only, with a token, like the lab.
# With rendered characters: make app PAGE=figures/explorer.html
PAGE ?= figures/explorer_photographs.html
app: $(READY)
	$(BIN)/python labkit/explorer/serve.py $(PAGE)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
		|| { echo "This Python cannot make virtual environments; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about 7 GB with PyTorch, some minutes, once."
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs
