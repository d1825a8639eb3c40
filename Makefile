# The few commands a person types.
.PHONY: run test test-full check bench soak servers

CARGO ?= cargo
SEED ?= 42
MINUTES ?= 10
DATABASE ?= both

run: ## Serve on SQLite with the worker in process; prints a URL, a token and a first mutation.
	$(CARGO) run --locked --profile quick -- serve --dev

test: servers ## Everything CI runs, on private servers that end with it.
	$(CARGO) test --locked --workspace
	$(CARGO) test --locked -p tests --features plant --test suite planted

test-full: servers ## The same with the great numbers.
	TESTS_CASES=1000000 TESTS_FULL=1 $(CARGO) test --locked --workspace
	TESTS_FULL=1 $(CARGO) test --locked -p tests --features plant --test suite planted

check: ## What a commit passes.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

soak: servers ## Everything at once among faults, and a checker; SEED=42 MINUTES=10 DATABASE=sqlite or postgres.
	SEED=$(SEED) MINUTES=$(MINUTES) DATABASE=$(DATABASE) $(CARGO) test --locked -p tests --test soak

bench: servers ## Measures beside pgbench and plain SQL on a private PostgreSQL; BENCH='--only create' selects.
	$(CARGO) build --locked --release -p idem
	$(CARGO) run --locked --release -p bench -- $(BENCH)

servers:
	@sh tests/install.sh
