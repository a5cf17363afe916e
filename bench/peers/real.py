"""sentence-transformers' trainer, the peer of `npm run bench -- real`: real.py STEPS"""
import json, shutil, sys, tempfile, time

started = time.time()
import peer_models as peer
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.models import Normalize, Pooling, Transformer

steps, queries_a_step, candidates = int(sys.argv[1]), 16, 4
imported = time.time()
queries, documents = peer.table("queries"), peer.table("corpus")
lists = {}
for q, d in peer.scored("train"):
    lists.setdefault(q, []).append(d)
rows = [(q, ds) for q, ds in lists.items() if len(ds) >= candidates][: steps * queries_a_step]
columns = {"anchor": [queries[q] for q, _ in rows]}
for k in range(candidates):
    columns["positive" if k == 0 else f"negative_{k}"] = [documents[ds[k]] for _, ds in rows]
folder = peer.folder_of("minilm-l6")
transformer = Transformer(folder, max_seq_length=192)
for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
    setattr(transformer.auto_model.config, name, 0.0)
for module in transformer.modules():
    if type(module).__name__ == "Dropout":
        module.p = 0.0
model = SentenceTransformer(
    modules=[transformer, Pooling(transformer.get_word_embedding_dimension(), "mean"), Normalize()], device="cpu"
)
out = tempfile.mkdtemp()
trainer = SentenceTransformerTrainer(
    model=model,
    args=SentenceTransformerTrainingArguments(
        output_dir=out, max_steps=steps, per_device_train_batch_size=queries_a_step, learning_rate=5e-5,
        weight_decay=0.01, warmup_steps=10, logging_strategy="no", save_strategy="no", report_to=[], use_cpu=True,
        disable_tqdm=True, seed=0,
    ),
    train_dataset=Dataset.from_dict(columns),
    loss=MultipleNegativesRankingLoss(model, scale=20.0),
)
trainer.train()
seconds = time.time() - imported
for made in (folder, out):
    shutil.rmtree(made)
print(json.dumps({"engine": "sentence-transformers", "steps": steps, "seconds": round(seconds, 2),
                  "ms_a_step": round(1000 * seconds / steps, 1), "import_s": round(imported - started, 2),
                  "peak_rss_mb": peer.peak_mb()}))
