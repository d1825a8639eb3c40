# The few commands a person types.
.PHONY: run test test-full check bench soak fuzz servers

CARGO ?= cargo
SEED ?= 42
MINUTES ?= 10
DATABASE ?= both
SECONDS ?= 600
TARGETS ?= $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))

run: ## Serve on SQLite with the worker in process; prints a URL, a token and a first mutation.
	$(CARGO) run --locked --profile quick -- serve --dev

test: servers ## Everything CI runs, on private servers that end with it.
	$(CARGO) test --locked --workspace
	$(CARGO) test --locked -p tests --features fault-injection --test suite injected_faults

test-full: servers ## The same with the great numbers.
	TESTS_CASES=1000000 TESTS_FULL=1 $(CARGO) test --locked --workspace
	TESTS_FULL=1 $(CARGO) test --locked -p tests --features fault-injection --test suite injected_faults

check: ## What a commit passes: format, lints, documentation, and that what is generated is current.
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --document-private-items
	$(CARGO) test --locked -q -p tests --test suite -- source_tree:: graphql::schema::
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check bans licenses sources; \
		else echo 'cargo-deny: not run'; fi

soak: servers ## Everything at once among faults, and a checker; SEED=42 MINUTES=10 DATABASE=sqlite or postgres.
	SEED=$(SEED) MINUTES=$(MINUTES) DATABASE=$(DATABASE) $(CARGO) test --locked -p tests --test soak

# No code here is unsafe, so no sanitizer is asked for, and the stable compiler does.
fuzz: ## Made-up bytes for all that reads files and documents; SECONDS=600 a target, TARGETS='csv json' selects.
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz@0.13.2
	$(CARGO) run --locked -p fuzzing -- fuzz/corpus
	@failed=; for target in $(TARGETS); do \
		$(CARGO) fuzz run --sanitizer none $$target -- -dict=fuzz/words.dict -timeout=10 -max_total_time=$(SECONDS) \
			|| failed="$$failed $$target"; \
	done; [ -z "$$failed" ] || { echo "faults, in fuzz/artifacts:$$failed" >&2; exit 1; }

bench: servers ## Measures beside pgbench and plain SQL on a private PostgreSQL; BENCH='--only create' selects.
	$(CARGO) build --locked --release -p idem
	$(CARGO) run --locked --release -p bench -- $(BENCH)

servers:
	@sh tests/install.sh
