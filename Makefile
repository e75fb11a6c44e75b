# Two commands set up everything on a machine with python3 (3.11 or later) and make: `make demo` and `make test`.
PYTHON ?= python3
WORKERS ?= 2
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
READY := .venv/installed-$(VERSION)

.PHONY: demo test test-slow test-peers test-cost study studies learn translation cost benchmark catalogue check clean

demo: $(READY)
	.venv/bin/python -m experiments.run forgetting --profile demo --arms none,additive,multi_head_dot,transformer

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

# One study, `make study STUDY=copying`, or all of them: hours; started again, they go on. Records, cards and reports
# stand in experiments/<study>, what all have found in experiments/README.md.
STUDY ?= forgetting
STUDIES = forgetting copying content_free reading_window positions energy_scale gradient_reach key_value_heads \
	window_reach recall selective_copying parity extrapolation source_order attention_on_translation
study: $(READY)
	.venv/bin/python -m experiments.run $(STUDY) --profile cpu --results experiments/$(STUDY)
	.venv/bin/python -m experiments.run --summary > experiments/README.md

studies: $(READY)
	for study in $(STUDIES); do $(MAKE) study STUDY=$$study || exit; done
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
