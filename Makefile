# clinGPT's two commands for a fresh machine are `make quickstart` and `make test`.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup quickstart pubmedqa domain test test-all check format clean

help:
	@echo "make quickstart  set up, then prepare, train, evaluate and prompt a small model (CPU, offline)"
	@echo "make pubmedqa    the real thing, phase by phase: GPT-2 124M on PubMedQA's noisy labels, then"
	@echo "                 on its experts', then a report (downloads all; wants a GPU). The same command"
	@echo "                 goes on where it stopped; DOMAIN=notes.jsonl lets it read that text first"
	@echo "make test        set up, then run the test suite (CPU, offline)"
	@echo "make test-all    the same with the tests that take longest"
	@echo "make check       formatting, lint and types"
	@echo "make clean       remove the quickstart's data and run"

setup: .venv/core

.venv/core: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

.venv/dev: requirements.txt requirements-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@ .venv/core

quickstart: .venv/core
	$(BIN)/python prepare.py config/quickstart_data.py
	$(BIN)/python train.py config/quickstart.py
	$(BIN)/python eval.py --checkpoint=out/quickstart/best --split=test --texts=60
	$(BIN)/python sample.py --checkpoint=out/quickstart/best --task=answer --input=data/quickstart/test.jsonl --limit=3
	@echo
	@echo "Where things are:  data/quickstart (tokens), out/quickstart (checkpoints, curves.png, eval_test)"
	@echo "What to try next:  $(BIN)/python sample.py --task=answer   ask it about a text of your own"
	@echo "                   $(BIN)/python train.py --help           every setting"
	@echo "                   make pubmedqa                              GPT-2 on the real thing"

# The phases of docs/recipes.md. What was prepared is not prepared again, a run that was stopped goes
# on, and the test records are looked at once for each best checkpoint. With DOMAIN runs have names of
# their own, as they begin from other weights.
DOMAIN ?=
DOMAIN_FLAGS ?=
AFTER := $(if $(DOMAIN),_after_domain)
NOISY := out/pubmedqa_artificial$(AFTER)
FINAL := out/pubmedqa_two_phase$(AFTER)

pubmedqa: data/pqa_artificial/manifest.json data/pubmedqa/manifest.json $(if $(DOMAIN),domain)
	$(BIN)/python train.py config/pubmedqa_artificial.py --out=$(NOISY) $(if $(DOMAIN),--init_from=out/domain/best)
	$(BIN)/python train.py config/pubmedqa.py --out=$(FINAL) --init_from=$(NOISY)/best
	test $(FINAL)/eval_test/report.json -nt $(FINAL)/best/clingpt.json || \
		$(BIN)/python eval.py --checkpoint=$(FINAL)/best --split=test

domain: data/domain/manifest.json
	$(BIN)/python train.py config/domain.py

# What the last phase is measured on stays out of those before it.
UNSEEN := --against data/pubmedqa --drop_overlap=True

data/domain/manifest.json: | .venv/core data/pubmedqa/manifest.json
	$(BIN)/python prepare.py --source=$(DOMAIN) --tasks=text --out=data/domain --test_share=0 \
		$(UNSEEN) $(DOMAIN_FLAGS)

data/pqa_artificial/manifest.json: | .venv/core data/pubmedqa/manifest.json
	$(BIN)/python prepare.py --source=pubmedqa --subset=pqa_artificial --yes_share=0.5 $(UNSEEN)

data/pubmedqa/manifest.json: | .venv/core
	$(BIN)/python prepare.py --source=pubmedqa --out=data/pubmedqa

# Two workers of one thread each: most tests wait for small processes, which use one core.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist=loadfile

test: .venv/dev
	$(PYTEST) -m "not slow"

test-all: .venv/dev
	$(PYTEST)

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf data/quickstart out/quickstart
