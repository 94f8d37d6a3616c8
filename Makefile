# A thin menu; the work is done by the tools that it calls.
.PHONY: help check test coverage bench run docs clean

help:
	@echo "make run       the server, on ./neuro-tutor-data"
	@echo "make check     the quick loop: format, lints, unit tests"
	@echo "make test      everything: Rust, Python, Node, server, clients, browser"
	@echo "make coverage  one table of line coverage over all three languages"
	@echo "make bench     the benchmarks"

run:
	cargo run --release -p tutor-http

check:
	cargo fmt --all --check
	cargo clippy --locked -p tutor-core -p tutor-http --all-targets --all-features -- -D warnings
	cargo test --locked -p tutor-core --lib

test:
	@python3 .ci/tests.py

coverage:
	@python3 .ci/coverage.py

bench:
	cargo bench --locked -p neuro-tutor-benches

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features -p tutor-core -p tutor-http

clean:
	rm -rf target .venv .work bindings/node/node_modules bindings/node/native bindings/node/dist
