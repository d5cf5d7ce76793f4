# On a fresh machine, `make quickstart` and `make test` are all you need.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup quickstart pubmedqa domain test test-all check format clean

help:
	@echo "make quickstart  set up, then prepare, train, evaluate and prompt a small model (CPU, offline)"
	@echo "make pubmedqa    GPT-2 124M on PubMedQA: first its noisy labels, then its experts' labels, then"
	@echo "                 a report. Downloads weights and data, and needs a GPU to be fast. The same"
	@echo "                 command resumes. DOMAIN=notes.jsonl trains on that text first"
	@echo "make test        set up, then run the test suite (CPU, offline)"
	@echo "make test-all    the same with the slow tests"
	@echo "make check       formatting, lint, layers and types"
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
	@echo "The labels above are what this model learned; its explanations may name the wrong group."
	@echo "Files:  data/quickstart (tokens), out/quickstart (checkpoints, curves.png, eval_test/report.html)"
	@echo "Next:   $(BIN)/python sample.py --task=answer   # ask about a text of your own"
	@echo "        $(BIN)/python train.py --help           # every setting"
	@echo "        make pubmedqa                           # GPT-2 on the real data"

# The phases of docs/recipes.md. Prepared data is kept, stopped runs resume, and each best checkpoint is
# evaluated on the test split once. With DOMAIN the runs have other names, since they start from other
# weights.
DOMAIN ?=
DOMAIN_FLAGS ?=
AFTER := $(if $(DOMAIN),_after_domain)
NOISY := out/pubmedqa_artificial$(AFTER)
FINAL := out/pubmedqa_two_phase$(AFTER)

pubmedqa: data/pqa_artificial/manifest.json data/pubmedqa/manifest.json $(if $(DOMAIN),domain)
	$(BIN)/python train.py config/pubmedqa_artificial.py --out=$(NOISY) $(if $(DOMAIN),--init_from=out/domain/best)
	$(BIN)/python train.py config/pubmedqa.py --out=$(FINAL) --init_from=$(NOISY)/best
	@# Files written within one tick of the clock have equal times: such a report is current.
	@# Without symbolic links, best is a small file that names the checkpoint.
	best=$(FINAL)/best; test ! -f $$best || best=$(FINAL)/$$(cat $$best); \
		test -f $(FINAL)/eval_test/report.json && \
		! test $$best/clingpt.json -nt $(FINAL)/eval_test/report.json || \
		$(BIN)/python eval.py --checkpoint=$(FINAL)/best --split=test

domain: data/domain/manifest.json
	$(BIN)/python train.py config/domain.py

# Earlier phases must not see the records that the last phase is measured on.
UNSEEN := --against data/pubmedqa --drop_overlap=True

data/domain/manifest.json: | .venv/core data/pubmedqa/manifest.json
	$(BIN)/python prepare.py --source=$(DOMAIN) --tasks=text --out=data/domain --test_share=0 \
		$(UNSEEN) $(DOMAIN_FLAGS)

data/pqa_artificial/manifest.json: | .venv/core data/pubmedqa/manifest.json
	$(BIN)/python prepare.py --source=pubmedqa --subset=pqa_artificial --yes_share=0.5 $(UNSEEN)

data/pubmedqa/manifest.json: | .venv/core
	$(BIN)/python prepare.py --source=pubmedqa --out=data/pubmedqa

# Two workers with one thread each: most tests wait for small processes that use one core.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist=loadfile

test: .venv/dev
	$(PYTEST) -m "not slow"

test-all: .venv/dev
	$(PYTEST)

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf data/quickstart out/quickstart
