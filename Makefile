# One verb each. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Where torch comes from, e.g. TORCH_INDEX=https://download.pytorch.org/whl/cpu for the small CPU build.
TORCH_INDEX ?=
TORCH_VERSION := 2.13.0
# The image: podman, buildah or docker builds it; TAG, IMAGE_ARGS (more arguments for it) and PUSH=1 are yours.
ENGINE ?= $(firstword $(foreach each,podman buildah docker,$(if $(shell command -v $(each)),$(each))))
VARIANT ?= cpu
IMAGE ?= castalia
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG ?= $(VERSION)$(if $(filter-out cpu,$(VARIANT)),-$(VARIANT))
IMAGE_ARGS ?=
PUSH ?=
# What tests engine, gateway and shared: measured apart, since measuring slows what computes with tensors by a half.
COVERED := tests/unit/engine tests/unit/gateway tests/unit/replica tests/contract/test_fake.py
# Tests that start no fleet share the cores; some of them wait for a clock, so there is one process more than cores.
CORES := $(shell nproc 2>/dev/null || echo 3)
PARALLEL := --numprocesses $(shell expr $(CORES) + 1) --maxprocesses 4
# The extra vllm asks for older versions of what others ask for newer ones of: it is locked by loadtests.peers.setup.
LOCKED_EXTRAS := loadtest s3 speech tracing train
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The lock pins everything but torch and what only its CUDA build needs: both builds satisfy it.
UNLOCKED := torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx

.PHONY: help image run test test-browser test-cluster test-services test-slow test-vllm check format bench lock clean
help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

run: $(VENV)/.base  ## set everything up and serve the embedded fleet, and say what to try
	@$(BIN)/castalia up --models models.yaml

test: $(VENV)/.dev  ## run the tests (all but the slow ones), with coverage of engine, gateway and shared
	$(BIN)/python -m pytest $(COVERED) $(PARALLEL) -m "not slow" --cov --cov-report=term --cov-fail-under=90
	$(BIN)/python -m pytest tests/unit tests/contract tests/deploy tests/images $(PARALLEL) -m "not slow and not cluster" $(COVERED:%=--ignore=%)
	$(BIN)/python -m pytest tests/integration --numprocesses 2 -m "not slow"

test-services: $(VENV)/.dev  ## run the tests with real Redis, PostgreSQL, promtool and espeak-ng, which tests/services/install installs
	$(BIN)/python -m pytest tests/services -m "not slow"

test-browser: $(VENV)/.dev  ## drive the pages of the embedded fleet by Chromium, which tests/browser/install installs
	$(BIN)/python -m pytest tests/browser

test-slow: $(VENV)/.dev  ## run the tests that take more than a minute each
	$(BIN)/python -m pytest -m "slow and not services and not browser and not cluster and not vllm" --timeout 1800

test-vllm: $(VENV)/.dev  ## run a fleet whose model vLLM runs, its build for CPUs, in an environment of its own (3 GB)
	$(BIN)/python -m loadtests.peers.setup castalia-vllm
	$$($(BIN)/python -m loadtests.peers.setup --python castalia-vllm) -m pytest tests/vllm --timeout 900

test-cluster: $(VENV)/.dev  ## run the chart on nodes that are namespaces of this machine, and images, as root: CLUSTER_ARGS=
	$(BIN)/python -m pytest tests/images -m cluster --timeout 3600
	$(BIN)/python -m tests.cluster $(CLUSTER_ARGS)

check: $(VENV)/.dev  ## formatting, lint, types, layers, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright & types=$$!; failed=0; $(BIN)/lint-imports || failed=1; \
		$(BIN)/deptry services shared loadtests || failed=1; wait $$types || failed=1; exit $$failed

format: $(VENV)/.dev  ## rewrite the code to the house format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## measure engine, fleet and peers side by side; writes loadtests/reports/
	$(BIN)/python -m loadtests.bench $(BENCH_ARGS)

image:  ## build the container image: VARIANT= cpu or cuda, ENGINE=, IMAGE=, TAG=; PUSH=1 pushes it
	$(if $(ENGINE),,$(error found no podman, buildah or docker; name one by ENGINE=))
	$(ENGINE) build --file deploy/images/Containerfile --build-arg VARIANT=$(VARIANT) --build-arg TORCH_VERSION=$(TORCH_VERSION) \
		$(if $(TORCH_INDEX),--build-arg TORCH_INDEX=$(TORCH_INDEX)) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION="$$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null)" \
		--build-arg SOURCE="$$(git config --get remote.origin.url | sed 's#//[^@/]*@#//#')" \
		--tag $(IMAGE):$(TAG) $(IMAGE_ARGS) .
	$(if $(PUSH),$(ENGINE) push $(IMAGE):$(TAG))

lock: $(VENV)/.dev  ## resolve requirements/*.txt again from pyproject.toml
	$(BIN)/uv pip compile -q pyproject.toml --extra tracing --universal --python-version 3.11 --generate-hashes --no-annotate --upgrade \
		--custom-compile-command "make lock" $(UNLOCKED:%=--no-emit-package %) -o requirements/base.txt
	$(BIN)/uv pip compile -q pyproject.toml $(LOCKED_EXTRAS:%=--extra %) --group dev --constraint requirements/base.txt --universal \
		--python-version 3.11 --generate-hashes --no-annotate --upgrade --custom-compile-command "make lock" \
		$(UNLOCKED:%=--no-emit-package %) -o requirements/dev.txt
	printf 'cyclonedx-bom\nhatchling\nuv\n' | $(BIN)/uv pip compile -q - --constraint requirements/dev.txt --universal \
		--python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" -o requirements/image.txt
	echo uv | $(BIN)/uv pip compile -q - --constraint requirements/dev.txt --universal --python-version 3.11 \
		--generate-hashes --no-annotate --custom-compile-command "make lock" -o requirements/uv.txt

clean:  ## remove the virtual environment and every cache in this folder
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# uv takes a quarter of pip's time. It reads none of pip's settings: where they lead to another index, pip will do.
FROM_LOCK := --quiet --no-deps --require-hashes --requirement
define install  # $(1): the lock to install from
	$(PIP) install $(FROM_LOCK) requirements/uv.txt
	$(BIN)/uv pip install --no-config --compile-bytecode --python $(BIN)/python $(FROM_LOCK) requirements/$(1).txt \
		|| $(PIP) install $(FROM_LOCK) requirements/$(1).txt
	$(PIP) install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch==$(TORCH_VERSION)
	$(PIP) install --quiet --no-deps --editable .
endef

$(VENV)/.base: requirements/base.txt pyproject.toml | $(BIN)/python
	@echo "Installing what serving needs into $(VENV): a minute or two, and longer for a CUDA build of torch ..."
	@$(call install,base)
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing what serving and the tests need into $(VENV): a minute or two, and longer for a CUDA build of torch ..."
	@$(call install,dev)
	@touch $@ $(VENV)/.base
