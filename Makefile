# Two commands set up everything on a machine with python3 (3.11 or later) and make: `make demo` and `make test`.
PYTHON ?= python3
WORKERS ?= 2

.PHONY: demo test test-slow study check clean

demo: .venv/installed
	.venv/bin/python -m experiments.run forgetting --task pronunciation \
		--arms none,additive,multi_head_dot,transformer --seeds 2 --profile demo

test: .venv/installed
	.venv/bin/python -m pytest -n $(WORKERS) --dist worksteal

test-slow: .venv/installed
	.venv/bin/python -m pytest -n 0 -m slow

study: .venv/installed
	.venv/bin/python -m experiments.run forgetting --task pronunciation --profile cpu
	.venv/bin/python -m experiments.run forgetting --task copy --profile cpu
	cat runs/forgetting/pronunciation/cpu/card.md runs/forgetting/copy/cpu/card.md > experiments/forgetting/README.md
	cat runs/forgetting/pronunciation/cpu/results.jsonl runs/forgetting/copy/cpu/results.jsonl \
		> experiments/forgetting/results.jsonl

check: .venv/installed
	.venv/bin/python -m ruff check

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'make: $(PYTHON) is older than Python 3.11; say make PYTHON=python3.12 ...' >&2; exit 2; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache
