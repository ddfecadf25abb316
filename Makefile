# make demo   build everything, run the penguins three ways, compare digests
# make test   all tests
# make bench  the table of ratios
# make lint   formatting and clippy, warnings denied

VENV := target/venv
LOCKSTEP := target/release/lockstep

.PHONY: demo test bench lint toolchain
.DEFAULT_GOAL := demo

demo: $(LOCKSTEP) $(VENV)/.ready
	$(VENV)/bin/python examples/demo.py

test: toolchain $(VENV)/.ready
	cargo test --release --workspace

bench: toolchain $(VENV)/.ready
	cargo run --release -p lockstep-benches

lint:
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings

toolchain:
	deploy/toolchain.sh

$(LOCKSTEP): toolchain
	cargo build --release -p lockstep-host

$(VENV)/.ready: tests/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -r tests/requirements.txt
	touch $@
