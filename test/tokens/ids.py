"""Ids and types of texts and pairs by tokenizers, and by transformers' AutoTokenizer: ids.py FOLDER TEXTS.json NAMES..."""
import json, os, sys
from tokenizers import Tokenizer

folder, texts = sys.argv[1], json.load(open(sys.argv[2]))
out = {}
for name in sys.argv[3:] or sorted(os.listdir(folder)):
    t = Tokenizer.from_file(os.path.join(folder, name, "tokenizer.json"))
    t.no_truncation(); t.no_padding()
    found, places = [], []
    for text in texts:
        e = t.encode(text)
        found.append([e.ids, e.type_ids])
        bare = t.encode(text, add_special_tokens=False)
        places.append([bare.offsets, t.decode(e.ids), t.decode(e.ids, skip_special_tokens=False)])
    e = t.encode(texts[0], texts[1])
    out[name] = {"texts": found, "places": places, "pair": [e.ids, e.type_ids], "size": t.get_vocab_size()}
print(json.dumps(out))
