# Everything a person or CI runs here. A target makes the environment that it needs, from the lock files, the first
# time it is called and whenever they change; Python 3.11 or later is all that has to be there before.
#
# One environment, .venv, grows by locks that agree with each other: service, demo, dev, training. Tools whose needs
# would collide with it have one each: .venv-proto, .venv-lock, .venv-ops.

PYTHON ?= python3
CONTAINER ?= $(firstword $(notdir $(shell command -v podman docker)) podman)

VENV := .venv
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
RUN := PYTHONPATH=.:proto $(VENV)/bin/python
INSTALL := -m pip --disable-pip-version-check install --quiet
NEW_ENVIRONMENT = @$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, \
	this is %d.%d; name another: make PYTHON=python3.12" % sys.version_info[:2])' && $(PYTHON) -m venv --clear

# ONNX Runtime's Linux builds report to their maker unless told not to.
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo demo-latent serve train quality bench capacity observe load test test-fast lint style types imports lint-deploy deploy-check proto lock image image-training image-check clean

help:  ## this list
	@sed -n -E 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | \
		while IFS="$$(printf '\t')" read -r target text; do printf '  make %-12s %s\n' "$$target" "$$text"; done

# --- use it -----------------------------------------------------------------------------------------------------------

demo: $(VENV)/.stamp-demo  ## start the service, denoise photographs, write a page that compares; IMAGES=DIR for your own
	$(RUN) -m service.demo $(if $(IMAGES),--images "$(IMAGES)")

demo-latent: $(VENV)/.stamp-service  ## new digits, ways between digits, their codes and energies, from models with a latent code, on a page
	$(RUN) -m service.demo.latent

serve: $(VENV)/.stamp-service  ## the service: gRPC on 50051, metrics and health on 8081; MODELS=DIR for your own networks
	$(if $(MODELS),DENOISED_MODELS_DIR="$(MODELS)") $(RUN) -m service

train: $(if $(IMAGES),$(VENV)/.stamp-training)  ## a short training run on IMAGES=DIR, ends with runs/models; VALIDATION=DIR for images it must not see
	$(if $(IMAGES),,$(error name a directory of images: make train IMAGES=DIR))
	$(RUN) -m training prepare "$(IMAGES)" $(if $(VALIDATION),--test "$(VALIDATION)") --to runs/pack
	$(RUN) -m training train training/configs/quick.toml --data runs/pack --run runs/quick
	$(if $(VALIDATION),$(RUN) -m training evaluate runs/quick --images "$(VALIDATION)")
	$(RUN) -m training export runs/quick --data runs/pack --to runs/models
	@echo 'Serve it: make serve MODELS=runs/models'

# --- check it ---------------------------------------------------------------------------------------------------------

test: $(VENV)/.stamp-training  ## every test, training included
	$(RUN) -m pytest $(ARGS)

test-fast: $(VENV)/.stamp-dev  ## the tests that need neither torch nor patience
	$(RUN) -m pytest -m "not training and not slow" $(ARGS)

lint: style types imports  ## style, format, types (torch's included), dependency direction

style: $(VENV)/.stamp-dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

types: $(VENV)/.stamp-training
	$(VENV)/bin/mypy proto/denoised service training tests

imports: $(VENV)/.stamp-dev
	PYTHONPATH=.:proto $(VENV)/bin/lint-imports

lint-deploy: .venv-ops/.stamp  ## scripts, Dockerfile and manifests as they lie
	.venv-ops/bin/shellcheck .ci/run proto/generate.sh requirements/compile.sh deploy/*.sh
	.venv-ops/bin/hadolint Dockerfile
	.venv-ops/bin/yamllint --strict -d '{extends: relaxed, rules: {line-length: {max: 120}}}' deploy
	.venv-ops/bin/checkov --quiet --compact --skip-download --framework dockerfile --file Dockerfile

deploy-check: .venv-ops/.stamp  ## every overlay, component and job, rendered and validated without a cluster or a registry
	OPS=.venv-ops/bin deploy/check.sh

quality: $(VENV)/.stamp-training  ## what the served networks gain, beside classical methods; ARGS="--count 2" for a quick look, see docs/quality.md
	$(RUN) -m tests.bench.quality $(ARGS)

bench: $(VENV)/.stamp-dev  ## the service against what this machine can do; ARGS="--only s28,s64 --rounds 3", see docs/benchmarks.md
	$(RUN) -m tests.bench $(ARGS)

capacity: $(VENV)/.stamp-dev  ## docs/capacity.md: pods for a load, from the benchmark's committed results
	$(RUN) -m tests.bench.capacity $(ARGS)

observe: $(VENV)/.stamp-training  ## alerts and dashboard on a live Prometheus while services are loaded, hung and killed
	$(RUN) -m tests.monitoring.live $(ARGS)

load: $(VENV)/.stamp-dev  ## what overload does to the service, as a page with plots; PROFILE=smoke SECONDS=3 for a short check
	$(RUN) tests/load/run.py $(PROFILE) $(if $(SECONDS),--duration $(SECONDS)) $(ARGS)

# --- make it ----------------------------------------------------------------------------------------------------------

proto: .venv-proto/.stamp  ## the stubs, from proto/
	PYTHON="$(CURDIR)/.venv-proto/bin/python" proto/generate.sh

lock: .venv-lock/.stamp  ## the lock files, from pyproject.toml; UPGRADE=1 takes newer releases
	PYTHON=.venv-lock/bin/python UPGRADE=$(UPGRADE) requirements/compile.sh

BUILD_FORMAT = $(if $(findstring podman,$(CONTAINER)),--format docker)

image: ## the container image, denoised:VERSION, by podman or docker
	$(CONTAINER) build $(BUILD_FORMAT) --target service --tag denoised:$(VERSION) $(ARGS) .

image-training: ## the image that trains, denoised-training:VERSION
	$(CONTAINER) build $(BUILD_FORMAT) --target training --tag denoised-training:$(VERSION) $(ARGS) .

image-check:  ## the image, built and run as in production, and the rendered local overlay, by podman
	deploy/image-check.sh denoised:$(VERSION) $(ARGS)

clean:  ## removes environments, caches and built things; runs/ stays
	rm -rf $(VENV) .venv-proto .venv-lock .venv-ops .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache build dist demo-output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments -----------------------------------------------------------------------------------------------------
# Each tells git, and the tools that ask git, to look away, as environments of Python 3.13 do by themselves.

$(VENV)/.stamp:
	$(NEW_ENVIRONMENT) $(VENV)
	@echo '*' >$(VENV)/.gitignore
	@touch $@

$(VENV)/.stamp-service $(VENV)/.stamp-demo $(VENV)/.stamp-dev: $(VENV)/.stamp-%: requirements/%.txt | $(VENV)/.stamp
	@echo 'Installing $< into $(VENV), once'
	@$(VENV)/bin/python $(INSTALL) --require-hashes --requirement $<
	@touch $@

$(VENV)/.stamp-training: requirements/training.txt $(VENV)/.stamp-dev
	@echo 'Installing $< into $(VENV), once'
	@$(VENV)/bin/python $(INSTALL) --requirement $<
	@touch $@

.venv-%/.stamp: requirements/%.txt
	$(NEW_ENVIRONMENT) .venv-$*
	@echo '*' >.venv-$*/.gitignore
	@.venv-$*/bin/python $(INSTALL) --require-hashes --requirement $<
	@touch $@
