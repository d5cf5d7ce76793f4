# Phase 0: continue training GPT-2 124M as a language model on text from the domain, such as notes,
# reports, abstracts or leaflets. It needs no labels. docs/recipes.md shows whether that helps.
#   prepare:  python prepare.py --source=notes.jsonl --tasks=text --out=data/domain --test_share=0
#   run:      python train.py config/domain.py
#   then:     python train.py config/pubmedqa.py --init_from=out/domain/best --out=out/after_domain
#   or all:   make pubmedqa DOMAIN=notes.jsonl
# Hardware:  one GPU of 24 GB: 2.0 GB of weights, gradients and moments (16 bytes per
#            parameter), the rest activations. With less memory, lower --micro_batch_size.
# Time:      not measured.
# Expected:  not measured. Before this phase GPT-2 124M predicts PubMed abstracts at 0.95 bits
#            per byte (Gao et al. 2020, table 2), about 3.0 nats per token of such text.

data = "data/domain"
out = "out/domain"
init_from = "gpt2"

block_size = 1024
batch_size = 32
micro_batch_size = 8
epochs = 1
learning_rate = 1e-4
min_lr = 1e-5
warmup_steps = 100
dropout = 0.0
eval_every = 200
log_every = 10
