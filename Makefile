# make demo   the main job on an archive it makes itself, or VIDEO=path/to/clip.mp4
# make test   the tests, as CI runs them          make check  formatting, lint, types, layers and the fast tests
# make faults kill, cut and fill things: every test that docs/reliability.md names
# make bench  the benchmarks                      make docs   docs/reference, printed from the classes
# make site   the documentation as pages in site/, built and read offline
# make audit  known vulnerabilities of what is installed

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
VIDEO ?=
# Those of speed, which need no data; the others say in their first lines what they take.
BENCHMARKS ?= annotate decoders long_video template serving compiled_training
OUTPUT ?= demo-output
TESTS ?=
QUICK := not slow and not gpu and not faults
# the tests that the document names, beside those of tests/faults
PROMISED = $(shell grep -oE 'tests/[a-z_/]+\.py::[A-Za-z0-9_:]+' docs/reliability.md | grep -v '^tests/faults/' | sort -u)

.PHONY: demo test test-slow faults check audit format bench docs site wheel clean
.DEFAULT_GOAL := test

demo: .venv/.runtime
	@$(BIN)/specktrack demo $(if $(VIDEO),"$(VIDEO)") --output "$(OUTPUT)"

# Ray's tests mostly wait for processes to start, so the others run beside them; what they say is printed after those. Engines'
# libraries are loaded by a process of their own. pytest ends with 5 where TESTS names none of a kind.
test: .venv/.dev
	@said=$$(mktemp); \
	$(BIN)/python -m pytest --durations=12 -m "ray and $(QUICK)" $(TESTS) >$$said 2>&1 & ray=$$!; \
	$(BIN)/python -m pytest --durations=12 -m "not ray and not engines and $(QUICK)" $(TESTS); others=$$?; \
	$(BIN)/python -m pytest -m "engines and $(QUICK)" $(TESTS); engines=$$?; \
	wait $$ray; ray=$$?; cat $$said; rm $$said; \
	for ended in $$ray $$others $$engines; do case $$ended in 0|5) ;; *) exit $$ended;; esac; done

test-slow: .venv/.dev
	@$(BIN)/python -m pytest -m "slow and not gpu and not faults" --timeout=1800 $(TESTS)

faults: .venv/.dev
	@SPECKTRACK_FUZZ_ROUNDS=3000 $(BIN)/python -m pytest -s -m "not gpu" --timeout=900 $(or $(TESTS),tests/faults $(PROMISED))

check: .venv/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@PYTHONPATH=platform $(BIN)/lint-imports
	@$(BIN)/python -m pytest -m "not slow and not gpu and not faults and not ray"

audit: .venv/.dev
	@$(PIP) install pip-audit
	@$(BIN)/pip-audit -s osv --skip-editable --progress-spinner off

format: .venv/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: .venv/.dev
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python "benchmarks/$$name.py" || exit 1; done

docs: .venv/.dev
	@$(BIN)/python docs/make_reference.py

site: docs
	@$(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html; with its search: python3 -m http.server -d site"

wheel: .venv/.runtime
	@$(PIP) wheel --no-deps -w dist .
	@ls dist/*.whl

clean:
	rm -rf dist build site demo-output .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find platform jobs tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps depend on pyproject.toml, so a changed dependency is installed by the next command.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "specktrack needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "making .venv"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }   # half a .venv would be taken for a whole one next time

.venv/.runtime: pyproject.toml | .venv/bin/python
	@echo "installing specktrack and what it needs into .venv"
	@$(PIP) install -e .
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "installing specktrack, what it needs and the tools for developing it into .venv"
	@$(PIP) install -e '.[dev]'
	@touch $@ .venv/.runtime
