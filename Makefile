# make run    the notebooks, executed into build/, on whatever data and device there are
# make test   lint, unit tests, and every notebook at the tiny preset
# make site   build/site/: results, notebooks as committed, and the playground; its runtime comes from npm
# make figures PRESET=full   trains what is published: figures/, the README's tables, the notebooks; goes on if interrupted
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# Threads that wait for each other by spinning slow everything down as soon as another process wants the core.
export OMP_WAIT_POLICY ?= passive

.PHONY: run test lab figures site bench format clean

run: $(INSTALLED)
	$(BIN)/python -m s18_utils run --out build $(if $(ONLY),--only $(ONLY))

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 S18_RUNS=$$(mktemp -d) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		--nbmake --nbmake-timeout=300 notebooks tests  # the longest first

lab: $(INSTALLED)
	$(BIN)/jupyter lab notebooks

figures: $(INSTALLED)
	$(BIN)/python -m s18_utils publish --preset $(or $(PRESET),full) $(foreach name,$(ONLY),--only $(name))

site: $(INSTALLED)
	$(BIN)/python -m s18_utils site --out build/site

bench: $(INSTALLED)
	$(BIN)/python -m s18_utils bench

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Not what took hours: the weights in build/release/, and your own records in runs/.
clean:
	rm -rf .pytest_cache .ruff_cache
	[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name release -exec rm -rf {} +

# setuptools warns at length that an editable package hides installed ones of its name; there are none here.
$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'Python 3.10 or newer is needed: make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
