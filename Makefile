# Two commands set up everything on a machine with python3 (3.11 or later) and make: `make demo` and `make test`.
PYTHON ?= python3
WORKERS ?= 2
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
READY := .venv/installed-$(VERSION)

.PHONY: demo test test-slow test-peers test-cost study learn translation cost benchmark catalogue check clean

demo: $(READY)
	.venv/bin/python -m experiments.run forgetting --task pronunciation \
		--arms none,additive,multi_head_dot,transformer --seeds 2 --profile demo

test: $(READY)
	.venv/bin/python -m pytest -n $(WORKERS) --dist worksteal

# What learns is compiled with all optimisations; the other tests are not (tests/conftest.py).
test-slow: $(READY)
	XLA_FLAGS= .venv/bin/python -m pytest -n $(WORKERS) --dist worksteal -m slow

# Against implementations that this project did not write, where .oracles has them; one process, one table at its end.
test-peers: $(READY)
	.venv/bin/python -m pytest -n 0 -m peer tests/peers

# Does time grow with length as it was expected to? Minutes, on a machine that does nothing else.
test-cost: $(READY)
	.venv/bin/python -m pytest -n 0 -m cost tests/test_cost.py

study: $(READY)
	for task in pronunciation copy; do \
		.venv/bin/python -m experiments.run forgetting --task $$task --profile cpu || exit; \
	done
	{ echo '# forgetting'; for task in pronunciation copy; do \
		echo; sed 's/^#/##/' runs/forgetting/$$task/cpu/card.md; done; } > experiments/forgetting/README.md
	cat runs/forgetting/pronunciation/cpu/results.jsonl runs/forgetting/copy/cpu/results.jsonl \
		> experiments/forgetting/results.jsonl
	.venv/bin/python -m experiments.forgetting.picture

catalogue: $(READY)
	.venv/bin/python -m research.catalogue --markdown > docs/catalogue.md

# Does every variant learn what was stated of it? Two processes, hours; started again, it goes on.
learn: $(READY)
	.venv/bin/python -m experiments.learning --part 1/2 & \
		.venv/bin/python -m experiments.learning --part 2/2 && wait && .venv/bin/python -m experiments.learning
	cp runs/learning/README.md runs/learning/results.jsonl experiments/learning

# How well do none, additive and a Transformer translate? Hours; started again, it goes on. The corpora stand in data/.
translation: $(READY)
	for corpus in multi30k pydocs tanaka; do \
		.venv/bin/python -m experiments.translation --corpus $$corpus || exit; \
	done

# Milliseconds and bytes of every mixer as sequences grow; the machine must do nothing else.
cost: $(READY)
	.venv/bin/python -m experiments.cost --markdown docs/cost.md

# How fast, beside the peers of .peers and the machine's own limit? The machine must do nothing else.
RUN ?= runs/benchmark/transformer
SECTIONS = train decode mixers data compile
benchmark: $(READY)
	test -d $(RUN) || .venv/bin/python -m research.train --config=configs/benchmark.py:transformer --workdir=$(RUN)
	for section in $(SECTIONS); do \
		.venv/bin/python -m experiments.benchmark $$section --workdir $(RUN) --markdown runs/benchmark/$$section.md \
			--json runs/benchmark/$$section.jsonl || exit; done
	{ echo '# Benchmark'; for section in $(SECTIONS); do \
		echo; sed 's/^#/##/' runs/benchmark/$$section.md; done; } > experiments/benchmark/README.md
	cat $(SECTIONS:%=runs/benchmark/%.jsonl) > experiments/benchmark/results.jsonl

check: $(READY)
	.venv/bin/python -m ruff check

# One environment, of one Python: another PYTHON makes it anew.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'make: $(PYTHON) is older than Python 3.11; say make PYTHON=python3.12 ...' >&2; exit 2; }
	test -e $(READY) || $(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache
