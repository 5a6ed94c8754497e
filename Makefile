# Everything runs in .venv, made on first use from the versions in requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The locked versions need Python 3.11; an older one gets the newest that pyproject.toml allows.
LOCK := $(shell $(PYTHON) -c 'import sys; print("-c requirements.lock" if sys.version_info >= (3, 11) else "")')

.PHONY: demo check test chaos crashes attacks store clusters week bench gpu models lint types schema docs format clean

demo: $(INSTALLED)
	$(BIN)/clipmill demo

# What starts Ray takes all cores of a small machine and runs alone; the rest runs two files at a time, each with one thread.
ALONE := tests/end_to_end tests/engine tests/infra tests/packaging
BESIDE := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ALONE:%=--ignore %)

# Style, types, the order of rooms, and every test that starts no Ray.
check: lint
	$(BESIDE)

test: $(INSTALLED)
	$(BESIDE)
	$(BIN)/python -m pytest $(ALONE)

# Kills at random instants, compared with runs that nobody disturbed: 40 minutes on two cores.
chaos: $(INSTALLED)
	$(BIN)/python tests/chaos.py --kills 20
	$(BIN)/python tests/train_kills.py --kills 20
	$(BIN)/python tests/train_kills.py --kills 6 --workers 2

# Every change that a writing command makes, on a disk and on S3, is an instant at which it is ended, or at which another one
# runs beside it: hours. The results so far are in docs/crash_points.json.
CRASHES := $(BIN)/python tests/crash_points.py
crashes: $(INSTALLED)
	$(CRASHES)
	$(CRASHES) --s3
	$(CRASHES) --pairs
	$(CRASHES) --pairs --s3
	$(CRASHES) --page docs/crash_points.md

# Bad inputs through the commands, counted by class; OLDER=CHECKOUT tries an older one too. Ten minutes on two cores.
attacks: $(INSTALLED)
	$(BIN)/python tests/attacks.py $(if $(OLDER),--beside "$(OLDER)")

# A real S3 server that is stopped for 30 and 60 seconds in the midst of commands, and ended: ten minutes.
store: $(INSTALLED)
	$(BIN)/python -m pytest -m long tests/end_to_end/test_real_s3.py

# Embedding beside its limit and its alternatives on photographs of yours; clip-retrieval is installed beside it (7 GB).
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.throughput --photographs "$(PHOTOGRAPHS)" --output docs/throughput.md

# What a GPU of this machine does with clipmill: some minutes.
gpu: $(INSTALLED)
	$(BIN)/python -m benchmarks.gpu --output gpu.json --page docs/gpu.md

# The built-in model from its recipe, and whether it reaches what the recipe says: 40 minutes on two cores.
models: $(INSTALLED)
	$(BIN)/python -m benchmarks.models
	$(BIN)/python -m benchmarks.models --recipe pipeline/clipmill/encoders/builtin_sound/recipe.yaml --work out/sound

# Seven nights of a schedule over an input that grows, shrinks and rots: some minutes on two cores.
week: $(INSTALLED)
	$(BIN)/python -m pytest -m long tests/end_to_end/test_week.py

# Clusters that scale from zero, grow and lose nodes, and hosts that are cut off from the network (as root): half an hour.
clusters: $(INSTALLED)
	$(BIN)/python -m pytest -m 'cluster and (long or not long)' tests/end_to_end/test_scaling.py tests/end_to_end/test_hosts.py

# What editors complete a run file by; a test says when it is out of date.
schema: $(INSTALLED)
	$(BIN)/python -c 'from clipmill.runs.schema import schema_text; print(schema_text(), end="")' > docs/run.schema.json

# The documentation as a site that can be searched, in out/docs; links that lead nowhere are mistakes.
docs: $(INSTALLED)
	$(SITE)

# Links and anchors that lead nowhere are mistakes here too.
SITE = $(BIN)/python docs/make_site.py out/docs-source >/dev/null && \
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && cp out/docs-source/llms.txt out/docs/

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(SITE)

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(LOCK) --editable '.[test,lint]'
	$(BIN)/python -m pip install --quiet --no-deps clip-benchmark==1.6.1 clip-retrieval==2.45.0  # oracles of tests, which need none of what they ask for
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) out
