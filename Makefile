# The commands of the project. `make` alone lists them.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell bash tools/find-python)

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.done  ## make .venv with exactly the locked packages
$(VENV)/.done: requirements/dev.lock pyproject.toml tools/find-python
	@test -n "$(PYTHON)" || { echo "wxgate needs Python $$(cat .python-version); none was found" >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

system:  ## the Debian packages whose servers the tests run
	bash tools/system-packages

demo: setup  ## the main job, end to end over real TLS on loopback
	$(BIN)/wxgate demo

test: setup check unit  ## everything CI runs

check: setup  ## format, lint, types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

unit: setup system  ## the test suite
	$(BIN)/pytest -n 2

mutate: setup system  ## take each guard out in turn: a test must miss it
	$(BIN)/python tools/mutate

tls-scan: setup  ## scan the TLS of a listener with sslyze, from an environment of its own
	$(BIN)/python tools/tls-scan

soak: mutate tls-scan  ## the long checks

bench: setup .venv-bench/.done  ## ratios against mitmdump, a hand-written service and nginx (needs wrk, nginx, gcc)
	$(BIN)/python -m bench $(BENCH)

bench-policy: setup  ## what policies cost: compiling, a text message, growth with rules and leaves
	$(BIN)/python -m bench.policies

bench-keys: setup system  ## what keys cost: a field, calls of the key service, rotating and rewrapping 10 000 keys
	$(BIN)/python -m bench.keys $(BENCH)

bench-steps: setup  ## where a message's time goes: CPU time of each step, without sockets
	$(BIN)/python -m bench.steps

.venv-bench/.done: requirements/bench.lock
	rm -rf .venv-bench
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/bench.lock
	touch $@

format: setup  ## rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:  ## resolve requirements/*.in again (needs uv)
	for n in run dev sslyze bench; do \
	  uv pip compile --python $(PYTHON) --override requirements/override.txt requirements/$$n.in --generate-hashes \
	    --no-emit-index-url --no-annotate --no-header -q -o requirements/$$n.lock || exit 1; done

clean:  ## remove what the other targets made
	rm -rf $(VENV) .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

.PHONY: help setup system demo test check unit mutate tls-scan soak bench bench-policy bench-keys bench-steps format lock clean
