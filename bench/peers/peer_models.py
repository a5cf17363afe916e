"""Models of $SHARED as PyTorch modules, and its data, for the peers of the benchmarks."""
import gzip, json, os, resource, shutil, tempfile
import onnx, torch
from onnx import numpy_helper
from transformers import BertConfig, BertForSequenceClassification, BertModel

SHARED = os.environ.get("SHARED", "../shared")
# Where both sides of a benchmark compute.
DEVICE = "cuda" if os.environ.get("PROVIDER") == "cuda" else "cpu"
torch.set_num_threads(int(os.environ.get("THREADS", os.cpu_count())))


def folder_of(name, classifier=False):
    """A Hugging Face folder with the weights of models/NAME/onnx/model.onnx. The caller removes it."""
    source = os.path.join(SHARED, "models", name)
    config = json.load(open(os.path.join(source, "config.json")))
    make = BertForSequenceClassification if classifier else BertModel
    model = make(BertConfig(**{k: v for k, v in config.items() if k != "architectures"}))
    graph = onnx.load(os.path.join(source, "onnx/model.onnx")).graph
    stored = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    known = model.state_dict()
    found = {k[2:]: v for k, v in stored.items() if k.startswith("m.") and k[2:] in known}
    for node in graph.node:
        # Exported as x @ W: the module's path is the node's, the weight its transpose.
        if node.op_type == "MatMul" and node.input[1] in stored:
            path = node.name[3:].rsplit("/", 1)[0].replace("/", ".") + ".weight"
            found[path] = stored[node.input[1]].T.contiguous()
    missing = [k for k in known if k not in found and "position_ids" not in k and not (not classifier and "pooler" in k)]
    assert not missing, missing
    model.load_state_dict(found, strict=False)
    folder = tempfile.mkdtemp()
    model.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if os.path.exists(os.path.join(source, file)):
            shutil.copyfile(os.path.join(source, file), os.path.join(folder, file))
    return folder


def table(name):
    """id -> text of corpus or queries of data/debian; a document is its title, a space and its text."""
    path = os.path.join(SHARED, "data/debian", name + ".jsonl.gz")
    rows = map(json.loads, gzip.open(path, "rt"))
    return {r["_id"]: ((r.get("title") or "") + " " + r["text"]).strip() for r in rows}


def scored(split):
    """[(query id, document id)] of the teacher's scored candidates, in the order of the file."""
    lines = gzip.open(os.path.join(SHARED, f"data/debian/teacher-scores-{split}.tsv.gz"), "rt").read().splitlines()[1:]
    return [tuple(line.split("\t")[:2]) for line in lines]


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
