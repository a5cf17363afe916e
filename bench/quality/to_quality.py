"""sentence-transformers' side of `npm run bench -- to-quality`: to_quality.py TOWER fp32|bf16 STEPS FOLDER

Its own recipes: for the two query towers EmbedDistillLoss over the teacher's vectors of queries (and spans), with the student cut
from the teacher's layers or a StaticEmbedding of the teacher's token vectors; for both towers MultipleNegativesRankingLoss with
hard negatives. Dropout off, AdamW, linear schedule with a warm-up of a tenth. LR and LOSS override the choice.
"""
import json, os, resource, shutil, sys, tempfile, time

imports = time.time()
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../peers"))
import numpy as np
import peer_models as peer
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import EmbedDistillLoss, MultipleNegativesRankingLoss
from sentence_transformers.models import Normalize, Pooling, StaticEmbedding, Transformer
from tokenizers import Tokenizer

tower, dtype, steps, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def read(name):
    texts = [json.loads(line) for line in open(os.path.join(folder, name + ".jsonl"))]
    file = os.path.join(folder, name + ".f32")
    vectors = np.fromfile(file, dtype=np.float32).reshape(-1, 384) if os.path.exists(file) else None
    return texts, vectors


def without_dropout(transformer):
    for module in transformer.modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(transformer.auto_model.config, name, 0.0)
    return transformer


started, used = time.time(), cpu()
sources = []
if tower == "static":
    tokenizer = Tokenizer.from_file(os.path.join(peer.SHARED, "models/debian-dual-encoder/tokenizer.json"))
    tokens = np.fromfile(os.path.join(folder, "tokens.f32"), dtype=np.float32).reshape(-1, 384)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=tokens), Normalize()], device=peer.DEVICE)
else:
    sources.append(peer.folder_of("minilm-l6" if tower == "assistant" else "debian-dual-encoder"))
    transformer = Transformer(sources[-1], max_seq_length=96 if tower == "assistant" else 64)
    if tower == "query-tower":
        encoder = transformer.auto_model.encoder
        encoder.layer = torch.nn.ModuleList([encoder.layer[i] for i in (0, 2, 5)])
        transformer.auto_model.config.num_hidden_layers = 3
    model = SentenceTransformer(modules=[without_dropout(transformer), Pooling(384, "mean"), Normalize()], device=peer.DEVICE)

if tower == "assistant":
    queries, documents = peer.table("queries"), peer.table("corpus")
    lists = {}
    for q, d in peer.scored("train"):
        lists.setdefault(q, []).append(d)
    order = np.random.default_rng(0).permutation(len(lists))
    rows = [(q, ds) for q, ds in lists.items() if len(ds) >= 4]
    rows = [rows[i] for i in order if i < len(rows)][: steps * 32]
    data = {"anchor": [queries[q] for q, _ in rows]}
    for k in range(4):
        data["positive" if k == 0 else f"negative_{k}"] = [documents[ds[k]] for _, ds in rows]
    loss, batch, rate = MultipleNegativesRankingLoss(model, scale=20.0), 32, 5e-5
else:
    texts, vectors = read("train")
    if tower == "static":
        more, theirs = read("spans")
        texts, vectors = texts + more, np.concatenate([vectors, theirs])
    batch = 320 if tower == "static" else 64
    order = np.random.default_rng(0).permutation(len(texts))
    order = np.concatenate([order] * (1 + steps * batch // len(order)))[: steps * batch]
    data = {"sentence": [texts[i] for i in order], "label": [vectors[i] for i in order]}
    loss, rate = EmbedDistillLoss(model, distance_metric=os.environ.get("LOSS", "cosine")), 3e-3 if tower == "static" else 1e-3

out = tempfile.mkdtemp()
trainer = SentenceTransformerTrainer(
    model=model,
    args=SentenceTransformerTrainingArguments(
        output_dir=out, max_steps=steps, per_device_train_batch_size=batch, learning_rate=float(os.environ.get("LR", rate)),
        weight_decay=0.0 if tower == "static" else 0.01, warmup_steps=-(-steps // 10), logging_strategy="no",
        save_strategy="no", report_to=[], use_cpu=peer.DEVICE == "cpu", bf16=dtype == "bf16", disable_tqdm=True, seed=0,
    ),
    train_dataset=Dataset.from_dict(data),
    loss=loss,
)
trainer.train()
seconds, seconds_cpu = time.time() - started, cpu() - used

model.eval()
if tower == "assistant":
    model.max_seq_length = 192
asked = read("dev")[0] + read("test")[0]
place = os.path.join(folder, f"theirs-{tower}-{dtype}")
model.encode(asked, batch_size=64).astype(np.float32).tofile(place + "-queries.f32")
found = {"queries": place + "-queries.f32"}
if tower == "assistant":
    model.encode(read("documents")[0], batch_size=32).astype(np.float32).tofile(place + "-documents.f32")
    found["documents"] = place + "-documents.f32"
for made in [out, *sources]:
    shutil.rmtree(made, ignore_errors=True)
print(json.dumps({"engine": "sentence-transformers", "dtype": dtype, "tower": tower, "steps": steps,
                  "seconds": round(seconds, 1), "cpu_seconds": round(seconds_cpu, 1),
                  "import_s": round(started - imports, 1), **found}))
