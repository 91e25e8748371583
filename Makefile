# Two commands do all their own set-up: `make demo` (the main job on the embedded images) and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests and demo never reach for a hub or send usage statistics.
export HF_HUB_OFFLINE = 1
export HF_HUB_DISABLE_TELEMETRY = 1

# A process per core, so one thread in each; tests of a file share what they set up, files that take long begin.
test quick: export OMP_NUM_THREADS = 1
PARALLEL = --numprocesses auto --dist loadfile --no-loadscope-reorder

# The tests of vision-language families want torchvision, and so another build of torch: an environment of its own (6 GB).
FAMILIES ?= .venv-families

.PHONY: demo test quick families fuzz check docs clean

demo: $(VENV)/.installed-demo
	@bash scripts/demo.sh $(BIN)

test: $(VENV)/.installed-dev
	@bash scripts/system_packages.sh
	@bash scripts/llama_cpp.sh $(BIN)/python
	$(BIN)/python -m pytest $(PARALLEL)

# The tests that need neither Java, Chromium, training, a server nor other data, with fewer drawn examples.
quick: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PARALLEL) --hypothesis-profile=quick -m "not slow"

families: $(FAMILIES)/.installed
	OMP_NUM_THREADS=1 $(FAMILIES)/bin/python -m pytest tests/families --numprocesses auto

$(FAMILIES)/.installed: pyproject.toml constraints-vlm.txt
	@test -x $(FAMILIES)/bin/python || $(PYTHON) -m venv $(FAMILIES)
	$(FAMILIES)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-vlm.txt \
		--editable '.[vlm,lora]' pytest pytest-timeout pytest-xdist hypothesis
	@touch $@

# The tests that draw their examples, with other examples each time.
fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --hypothesis-profile=search -m hypothesis

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/import_circles.py

# The documentation as a site, checked for dead links; build/docs/index.html opens from disk.
docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --quiet
	@echo "documentation: $(CURDIR)/build/docs/index.html"

$(VENV)/.installed-%: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*$(EXTRA_$*)]'
	@touch $@

EXTRA_dev := ,demo,bertscore

clean:
	rm -rf $(VENV) $(FAMILIES) runs build *.egg-info
