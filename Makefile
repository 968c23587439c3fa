# Two commands matter: `make demo` to see it, `make test` to check it. Both do their own set-up.

SHELL := /bin/bash
export CARGO_TERM_COLOR ?= $(if $(CI),never,auto)
APP := examples/shop/app/Cargo.toml

.PHONY: demo setup test check e2e kills bench help

help:
	@echo "make demo    the main job on your terminal: no Docker, no configuration"
	@echo "make test    everything, with real containers and PostgreSQL (sets the machine up)"
	@echo "make check   format, lints, documentation and the tests that need no Docker"
	@echo "make e2e     only the tests with real containers; make e2e T=NAME for some of them"
	@echo "make kills   kill -9 behind every record of every operation, and 200 times at random (2 hours)"
	@echo "make bench   CPU per request, side by side with nginx and HAProxy"
	@echo "make setup   packages, engine and images for make test"

demo:
	cargo run -- demo

# CPU per request beside nginx and HAProxy, in one run; needs wrk and the peers from Debian.
bench:
	cargo build --release -p cutover-proxy --example bench_proxy
	bench/compare.py

setup:
	scripts/setup
	scripts/images

# The shop is a workspace of its own and is built with the flags of its image.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
SHOP = RUSTFLAGS="-C target-feature=+crt-static" cargo
SHOP_FLAGS = --locked --release --target $(HOST) --manifest-path $(APP)

define LINTS
	cargo fmt --all --check
	cargo fmt --manifest-path $(APP) --check
	cargo clippy --locked --workspace --all-targets --features cutover/e2e -- -D warnings
	$(SHOP) clippy $(SHOP_FLAGS) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
	$(SHOP) test -q $(SHOP_FLAGS)
	cargo test --locked --workspace --doc -q
endef

# cargo-nextest where it is installed (the settings are in .config/nextest.toml), else cargo test.
define RUN_TESTS
	@if cargo nextest --version >/dev/null 2>&1; then \
		set -x; cargo nextest run --locked --workspace $(1) $(2); \
	else \
		set -x; RUST_TEST_THREADS=2 cargo test --locked --workspace --lib --bins --tests $(1) $(2); \
	fi
endef

test: setup
	scripts/sweep
	$(LINTS)
	$(call RUN_TESTS,--features cutover/e2e,)

check:
	$(LINTS)
	$(call RUN_TESTS,,)

e2e: setup
	scripts/sweep
	$(call RUN_TESTS,--features cutover/e2e --test e2e,$(T))

# Every state and both ways from it; then 200 rounds of two kills each, from one seed that is printed.
# The gate has two records of the main operations, and a few rounds.
kills: setup
	scripts/sweep
	CUTOVER_EVERY=1 cargo nextest run --locked --features cutover/e2e --test e2e --profile kills \
		--run-ignored all -E 'test(behind_each_record)'
	CUTOVER_SEED=$${CUTOVER_SEED:-$$(date +%s)} CUTOVER_KILLS=100 cargo nextest run --locked \
		--features cutover/e2e --test e2e --profile kills --no-capture \
		-E 'test(/^kills::.*killed_twice/)'
