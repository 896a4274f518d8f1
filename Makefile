# SPDX-License-Identifier: Apache-2.0
# A thin front to Meson: each action of a user or developer is one command. `make help` lists them.
BUILD ?= build
PREFIX ?= /usr/local
SEED ?= 1
COUNT ?= 1
SECONDS ?= 60

.DEFAULT_GOAL := build
.PHONY: help demo build configure check check-long bench lint format fuzz sim install clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## install what is missing, build, run the AI pipeline and the proof; prints where the report lies
	@tools/install-packages build demo
	@$(MAKE) --no-print-directory configure
	@ninja -C $(BUILD)
	@tools/demo --build $(BUILD)

build: ## install what is missing and build
	@tools/install-packages build
	@$(MAKE) --no-print-directory configure
	@ninja -C $(BUILD)

configure:
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD) --prefix=$(PREFIX)

check: ## every test that this machine can run, in under 25 minutes
	@tools/install-packages build demo check
	@tools/check

check-long: ## check, with long fuzzing, many simulator seeds, and Linux hosts: one built from source, one in QEMU
	@tools/install-packages build demo check check-long
	@tools/check --long

bench: ## figures against the physical limit and beside what users have today (docs/performance.md, docs/beside.md)
	@tools/install-packages build bench
	@$(MAKE) --no-print-directory configure
	@meson setup --reconfigure $(BUILD) >/dev/null # packages of this purpose may be new: libnbd
	@ninja -C $(BUILD)
	@tools/bench --build $(BUILD) --json $(BUILD)/bench.json
	@tools/bench-target --build $(BUILD) --json $(BUILD)/bench-target.json
	@tools/bench-growth --build $(BUILD) --json $(BUILD)/bench-growth.json
	@tools/bench-beside --build $(BUILD) --json $(BUILD)/beside.json
	@tools/bench-beside --render $(BUILD)/beside.json >/dev/null

lint: ## formatting, static analysis, shell and Python checks, house rules
	@tools/install-packages lint
	@tools/lint

format: ## clang-format everything
	@tools/install-packages lint
	@git ls-files '*.[ch]' | xargs clang-format -i

fuzz: ## every fuzzer, SECONDS in all (60): make fuzz SECONDS=600
	@tools/install-packages build check
	@tools/check --only fuzz --fuzz-seconds $(SECONDS)

sim: ## the simulator with one seed or COUNT, on all cores: make sim SEED=42 COUNT=1000
	@tools/install-packages build
	@$(MAKE) --no-print-directory configure
	@ninja -C $(BUILD)
	@tools/sim --build $(BUILD) $(SEED) $(COUNT)

install: build ## install to PREFIX (/usr/local); DESTDIR is honoured
	@meson install -C $(BUILD) --no-rebuild

clean: ## remove what was built
	rm -rf $(BUILD) build-asan build-fuzz
