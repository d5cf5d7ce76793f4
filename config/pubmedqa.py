# Fine-tune GPT-2 124M on PubMedQA's 450 labelled training records (fold 0 validates).
#   prepare:  python prepare.py --source=pubmedqa --out=data/pubmedqa
#   run:      python train.py config/pubmedqa.py
# Hardware:  one GPU of 12 GB or more (2 GB of weights, gradients and moments, the rest
#            activations). A CPU works too, with a micro-batch that fits into memory.
# Time:      not measured on a GPU; an epoch has 630,000 tokens, which take 40 minutes on two
#            CPU cores at the measured 250 tokens/s.
# Expected:  not measured. The majority class has 55.2 % accuracy; models of 110M parameters that
#            are trained on these 450 records only reach 57 (Jin et al. 2019, table 5).

data = "data/pubmedqa"
out = "out/pubmedqa"
init_from = "gpt2"

block_size = 1024
batch_size = 16
micro_batch_size = 8
epochs = 5
learning_rate = 5e-5
min_lr = 5e-6
warmup_steps = 20
dropout = 0.1
eval_every = 20
