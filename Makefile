# Everything is installed into .venv inside this checkout; nothing else on the machine changes.

PYTHON ?= python3.11
BIN := .venv/bin
PLUGINS := $(wildcard plugins/*/src)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-isa test-whole test-toolchains sweep check types pytest format docs tables api fingerprints clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 17

# Looks at contents, not at times: nothing is done, in an instant, where nothing that is installed changed.
setup: ## make or update .venv: toolchain, host, plugins and tools
	@command -v $(PYTHON) >/dev/null || { echo "setup: no $(PYTHON) here; name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) scripts/bootstrap.py

demo: setup ## quantize EfficientNet-Lite0, run it, and say what became of each node
	@$(BIN)/python examples/demo.py

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@$(MAKE) --no-print-directory types
	$(BIN)/lint-imports
	$(BIN)/python docs/generate_tables.py --check

# Each plugin is a root of its own; mypy would take their folders for packages.
types: setup
	MYPYPATH=core:$(subst $(eval ) ,:,$(PLUGINS)) $(BIN)/mypy core $(PLUGINS)

# Two test processes, each with a thread for every core, would wait for one another.
pytest: export OMP_NUM_THREADS = 1
pytest: check
	$(BIN)/pytest -n 2 --dist worksteal

test: pytest ## run every check and every test, as CI does

# Kernels add floats in another order with other instructions. Each pair is the widest that torch and oneDNN use.
ISA := default:SSE41 avx2:AVX2
COMPUTING := $(addprefix tests/core/,arith integer hooks stages toolchain testing) \
	tests/flow tests/plugins tests/faulty tests/benchmarks tests/docs/test_examples.py

test-isa: export OMP_NUM_THREADS = 1
test-isa: setup ## run the tests that compute, as on processors with narrower instructions
	@set -e; for isa in $(ISA); do \
		echo "ATEN_CPU_CAPABILITY=$${isa%:*} DNNL_MAX_CPU_ISA=$${isa#*:}"; \
		ATEN_CPU_CAPABILITY=$${isa%:*} DNNL_MAX_CPU_ISA=$${isa#*:} $(BIN)/pytest -n 2 --dist worksteal $(COMPUTING); \
	done

# The files that take a part of their cases in make test.
WHOLE := $(shell grep -rl "^from whole import" tests)

test-whole: export OMP_NUM_THREADS = 1
test-whole: setup ## run the largest tests on all of their cases, of which make test takes a fixed part
	QUANTHOST_TEST_WHOLE=1 $(BIN)/pytest -n 2 --dist worksteal $(WHOLE)

sweep: setup ## take every operator that PyTorch lists through both backends
	$(BIN)/python benchmarks/sweep.py

test-toolchains: setup ## run the smoke tests with each supported release of the toolchain
	$(BIN)/python scripts/toolchains.py --write

format: setup ## fix what ruff can fix, and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

api: setup ## record the public API as it is now
	$(BIN)/python scripts/public_api.py --write

fingerprints: setup ## record the toolchain code that is installed as proved
	$(BIN)/python scripts/fingerprints.py --write

tables: setup ## write docs/backends anew from the support tables
	$(BIN)/python docs/generate_tables.py

# Material's notice about its successor would stand where warnings of ours do.
docs: export NO_MKDOCS_2_WARNING = 1
docs: setup ## build the site into site/, a warning being an error
	$(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

clean: ## remove .venv and all that was made
	rm -rf .venv .toolchains site out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
