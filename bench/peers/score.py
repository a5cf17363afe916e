"""sentence-transformers' side of `npm run bench -- score`: score.py PAIRS"""
import json, shutil, sys, time

import peer_models as peer
from sentence_transformers import CrossEncoder

count = int(sys.argv[1])
cuda = peer.DEVICE == "cuda"
batch = 256 if cuda else 32
folder = peer.folder_of("debian-cross-encoder", classifier=True)
model = CrossEncoder(folder, max_length=256, device=peer.DEVICE, num_labels=1)
if cuda:
    model.model.half()
queries, documents = peer.table("queries"), peer.table("corpus")
pairs = [(queries[q], documents[d]) for q, d in peer.scored("dev")[:count]]
model.predict(pairs[:64], batch_size=batch)
started = time.time()
model.predict(pairs, batch_size=batch)
seconds = time.time() - started
shutil.rmtree(folder)
print(json.dumps({"engine": "sentence-transformers", "dtype": "fp16" if cuda else "fp32", "pairs": len(pairs),
                  "ms_a_pair": round(1000 * seconds / len(pairs), 3), "pairs_a_second": round(len(pairs) / seconds, 1),
                  "peak_rss_mb": peer.peak_mb()}))
