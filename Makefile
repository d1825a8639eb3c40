# The commands for development. Each comment after ## says what the target does and which variables it takes.
.PHONY: run test test-full check bench soak fuzz release tools servers

CARGO ?= cargo
SEED ?= 42
MINUTES ?= 10
DATABASE ?= both
SECONDS ?= 600
TARGETS ?= $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))

run: ## Start a development server on SQLite; prints a URL, a token and a first mutation.
	$(CARGO) run --locked --profile quick --no-default-features -- serve --dev

test: servers ## Run all tests, on private servers that stop when the tests end.
	$(CARGO) test --locked --workspace
	$(CARGO) test --locked -p tests --features fault-injection --test suite injected_faults

test-full: servers ## Run all tests, with many more cases and larger data.
	TESTS_CASES=1000000 TESTS_FULL=1 $(CARGO) test --locked --workspace
	TESTS_FULL=1 $(CARGO) test --locked -p tests --features fault-injection --test suite injected_faults

check: servers ## Check what every commit must pass: format, lints, documentation and generated files.
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --document-private-items
	$(CARGO) test --locked -q -p tests --test suite -- source_tree:: graphql::schema:: documentation::
	@sh clients/check.sh
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check bans licenses sources; \
		else echo 'cargo-deny: not run'; fi

soak: servers ## Run mixed load under faults and check the results; SEED=42 MINUTES=10 DATABASE=sqlite or postgres.
	SEED=$(SEED) MINUTES=$(MINUTES) DATABASE=$(DATABASE) $(CARGO) test --locked -p tests --test soak

# The workspace has no unsafe code, so no sanitizer is needed, and the stable compiler is enough.
fuzz: ## Fuzz all code that reads files and GraphQL documents; SECONDS=600 per target, TARGETS='csv json' selects.
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz@0.13.2
	$(CARGO) run --locked -p fuzzing -- fuzz/corpus
	@failed=; for target in $(TARGETS); do \
		$(CARGO) fuzz run --sanitizer none $$target -- -dict=fuzz/words.dict -timeout=10 -max_total_time=$(SECONDS) \
			|| failed="$$failed $$target"; \
	done; [ -z "$$failed" ] || { echo "these targets failed, see fuzz/artifacts:$$failed" >&2; exit 1; }

release: ## Build the shipped binary, target/release/idem; takes a quarter of an hour on two cores.
	$(CARGO) build --locked --release -p idem

tools: ## Install the optional tools: cargo-deny for `make check`, cargo-fuzz for `make fuzz`.
	$(CARGO) install --locked cargo-deny@0.20.2 cargo-fuzz@0.13.2

bench: servers release ## Measure idem, pgbench and plain SQL on a private PostgreSQL; BENCH='--only create' selects.
	$(CARGO) run --locked --release -p bench -- $(BENCH)

servers: ## Install the servers and tools that the tests start, if they are missing.
	@sh tests/install.sh
