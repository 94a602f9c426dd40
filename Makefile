# SPDX-License-Identifier: GPL-3.0-or-later
# `make help` lists the targets. All can be interrupted and repeated.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
ifndef TOGETHER
.NOTPARALLEL:
endif
ifndef MAKE_STARTED
MAKE_STARTED := $(shell date +%s)
endif
export MAKE_STARTED
export ANSIBLE_FORCE_COLOR ?= $(if $(CI),0,)

# A heading with the seconds since make started; then the step, in the environment that set-up wrote.
heading = printf '\n==== %4d s  %s\n' "$$(( $$(date +%s) - $$MAKE_STARTED ))" "$(1)"
env = . .cache/env
inventory = inventories/lab

.PHONY: help setup setup-test lab images converge pipeline show demo lint unit apps servers molecule e2e sources machines test test-all bench clean lock

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: OS packages, .venv, a Docker engine
	@$(call heading,Set up this machine)
	@tools/setup.sh

setup-test: ## The same, with what only tests need
	@$(call heading,Set up this machine for tests)
	@tools/setup.sh test

lab: setup ## Make the nine hosts
	@$(call heading,Make the lab: nine hosts)
	@$(env); tools/images.py host
	@$(env); ANSIBLE_DISPLAY_OK_HOSTS=no ansible-playbook -i localhost, playbooks/lab.yml

images: setup ## Build the platform's images
	@$(call heading,Build the images)
	@$(env); tools/images.py

converge: lab images ## Run site.yml on the lab
	@$(call heading,Converge the platform)
	@$(env); ansible-playbook -i $(inventory) site.yml

pipeline: setup ## Bring the demo's tables from their files to gold
	@$(call heading,Run the pipeline)
	@$(env); ansible-playbook -i $(inventory) playbooks/run_pipeline.yml

show: ## Show where the lab's platform answers
	@$(call heading,Where to look)
	@$(env); tools/demo.sh

demo: converge pipeline show ## From a fresh machine to a running platform on nine hosts
	@$(call heading,Done)

lint: setup-test ## Check the sources: ansible-lint, ruff, mypy, documentation, collection archive
	@$(call heading,Lint)
	@$(env); ruff check . && ruff format --check . && mypy
	@$(env); tools/check-docs
	@$(env); ansible-lint --offline --profile production
	@$(env); tools/check-galaxy --quick

unit: setup-test ## Run the collection's unit tests
	@$(call heading,Unit tests)
	@$(env); pytest -q -m "not servers" tests/unit

servers: setup-test images ## Run gates and settings against real servers and stand-ins on this machine
	@$(call heading,Servers)
	@$(env); tools/check-servers

apps: setup-test images ## Run the apps' own tests
	@$(call heading,Tests of the apps)
	@$(env); tools/check-apps

molecule: setup-test lab images ## Run the Molecule scenario of the whole platform: check, converge, check, verify
	@$(call heading,Molecule)
	@$(env); tools/check-molecule default

e2e: setup-test pipeline ## Run the end-to-end tests on the converged lab (make demo)
	@$(call heading,End to end)
	@$(env); pytest -v -rP --durations=12 -m "not long" tests/e2e

# One processor checks the sources while the other makes hosts and images, much of which is waiting for downloads.
sources:
	@$(MAKE) --no-print-directory TOGETHER= lint unit

machines:
	@$(MAKE) --no-print-directory TOGETHER= lab images

test: setup-test ## Everything that fits into 50 minutes: lint, unit, apps, Molecule, end to end
	@$(MAKE) --no-print-directory -j2 TOGETHER=yes sources machines
	@$(MAKE) --no-print-directory apps molecule e2e

test-all: test servers ## test, servers, every role's own Molecule scenario, the long end-to-end tests, other versions of Python and ansible-core, sanity, bench
	@$(call heading,Properties: 1000 new examples of each)
	@$(env); pytest -q -m "hypothesis and not servers" --hypothesis-profile=search tests/unit
	@$(call heading,Other versions)
	@$(env); tools/check-matrix
	@$(env); tools/check-sanity
	@$(call heading,Molecule by role)
	@$(env); tools/check-molecule
	@$(call heading,Bench)
	@$(env); python tools/bench.py
	@$(env); python tools/bench_gates.py
	@$(call heading,Long end-to-end tests)
	@$(env); pytest -v -rP --durations=12 -m long tests/e2e

bench: setup ## Measure a converge that has nothing to do, and how soon gates return
	@$(call heading,Bench)
	@$(env); python tools/bench.py
	@$(env); python tools/bench_gates.py

lock: setup ## Write requirements.txt anew from requirements.in (UPGRADE=--upgrade: to the latest versions)
	@$(call heading,Lock requirements)
	@UV_SYSTEM_CERTS=1 UV_CACHE_DIR=$(CURDIR)/.cache/uv .venv/bin/uv pip compile --quiet --universal --python-version 3.11 $(UPGRADE) requirements.in -o requirements.txt

clean: ## Remove hosts, images, engine and all generated files
	@$(call heading,Clean)
	@tools/clean.sh
