"""sentence-transformers' side of `npm run bench -- encode`: encode.py MODEL TEXTS"""
import json, shutil, sys, time

import peer_models as peer
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer

name, count = sys.argv[1], int(sys.argv[2])
cuda = peer.DEVICE == "cuda"
batch = 256 if cuda else 32
folder = peer.folder_of(name)
transformer = Transformer(folder, max_seq_length=192)
model = SentenceTransformer(
    modules=[transformer, Pooling(transformer.get_word_embedding_dimension(), "mean"), Normalize()], device=peer.DEVICE
)
if cuda:
    model.half()
texts = list(peer.table("corpus").values())[:count]
model.encode(texts[:64], batch_size=batch)
started = time.time()
model.encode(texts, batch_size=batch)
seconds = time.time() - started
shutil.rmtree(folder)
print(json.dumps({"engine": "sentence-transformers", "model": name, "dtype": "fp16" if cuda else "fp32", "texts": len(texts),
                  "ms_a_text": round(1000 * seconds / len(texts), 3), "texts_a_second": round(len(texts) / seconds, 1),
                  "peak_rss_mb": peer.peak_mb()}))
