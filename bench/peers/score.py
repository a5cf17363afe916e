"""sentence-transformers' side of `npm run bench -- score`: score.py PAIRS"""
import json, shutil, sys, time

import peer_models as peer
from sentence_transformers import CrossEncoder

count = int(sys.argv[1])
folder = peer.folder_of("debian-cross-encoder", classifier=True)
model = CrossEncoder(folder, max_length=256, device="cpu", num_labels=1)
queries, documents = peer.table("queries"), peer.table("corpus")
pairs = [(queries[q], documents[d]) for q, d in peer.scored("dev")[:count]]
model.predict(pairs[:64], batch_size=32)
started = time.time()
model.predict(pairs, batch_size=32)
seconds = time.time() - started
shutil.rmtree(folder)
print(json.dumps({"engine": "sentence-transformers", "pairs": len(pairs),
                  "ms_a_pair": round(1000 * seconds / len(pairs), 3), "pairs_a_second": round(len(pairs) / seconds, 1),
                  "peak_rss_mb": peer.peak_mb()}))
