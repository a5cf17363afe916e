"""Builds small tokenizers of the kinds that models have, each in a folder of its own: kinds.py FOLDER TEXTS.json"""
import json, os, struct, sys
from tokenizers import Tokenizer, Regex, AddedToken, models as M, normalizers as N, pre_tokenizers as P, processors as X, trainers as T

folder, texts = sys.argv[1], json.load(open(sys.argv[2]))
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
QWEN = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
LLAMA3 = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
CL100K = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"""
O200K = r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
KIMI = r"""[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^\p{Han}]]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
DEEPSEEK = [r"[\r\n]", r"\s?[A-Za-z\u00b5\u00c0-\u00d6\u0370-\u0373\x{10400}-\x{1044f}]+", r"\s?[!-\/:-~\uff01-\uff0f\u2018-\u201f]+", r"\s+$", r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"]
made = 0


def keep(name, t, config=None):
    global made
    os.makedirs(os.path.join(folder, name), exist_ok=True)
    t.save(os.path.join(folder, name, "tokenizer.json"))
    json.dump(config or {"tokenizer_class": "PreTrainedTokenizerFast"}, open(os.path.join(folder, name, "tokenizer_config.json"), "w"))
    made += 1


def wordpiece(name, norm, pre, post=None, size=600, unk="[UNK]", config=None, added=(), chars=100):
    t = Tokenizer(M.WordPiece({"[UNK]": 0}, unk_token=unk, max_input_chars_per_word=100))
    if norm: t.normalizer = norm
    if pre: t.pre_tokenizer = pre
    t.train_from_iterator(texts, T.WordPieceTrainer(vocab_size=size, special_tokens=BERT, show_progress=False))
    if chars != 100:
        state = json.loads(t.to_str()); state["model"]["max_input_chars_per_word"] = chars
        t = Tokenizer.from_str(json.dumps(state))
    t.post_processor = post or X.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    if added: t.add_tokens(list(added))
    keep(name, t, config)


def bpe(name, norm, pre, post=None, size=700, special=("<s>", "<pad>", "</s>", "<unk>", "<mask>"), bytes_alphabet=False, trainer={}, added=(), extra=None, config=None, **model):
    t = Tokenizer(M.BPE(**model))
    if norm: t.normalizer = norm
    if pre: t.pre_tokenizer = pre
    alphabet = P.ByteLevel.alphabet() if bytes_alphabet else []
    special = list(special)
    if model.get("byte_fallback"): special += [f"<0x{b:02X}>" for b in range(256)]
    t.train_from_iterator(texts, T.BpeTrainer(vocab_size=size + len(special), special_tokens=special, initial_alphabet=alphabet, show_progress=False, **trainer))
    state = json.loads(t.to_str())
    if model.get("byte_fallback"): state["added_tokens"] = [a for a in state["added_tokens"] if not a["content"].startswith("<0x")]
    for k, v in model.items():
        if k in state["model"]: state["model"][k] = v
    if extra: extra(state)
    t = Tokenizer.from_str(json.dumps(state))
    if post: t.post_processor = post
    if added: t.add_tokens(list(added))
    keep(name, t, config)


def unigram(name, norm, pre, post=None, size=500, special=("<s>", "<pad>", "</s>", "<unk>", "<mask>"), fallback=False, added=(), config=None):
    t = Tokenizer(M.Unigram())
    t.pre_tokenizer = pre
    if norm: t.normalizer = norm
    t.train_from_iterator(texts, T.UnigramTrainer(vocab_size=size, special_tokens=list(special), unk_token="<unk>", show_progress=False))
    if fallback:
        state = json.loads(t.to_str())
        state["model"]["vocab"] += [[f"<0x{b:02X}>", 0.0] for b in range(256)]
        state["model"]["byte_fallback"] = True
        t = Tokenizer.from_str(json.dumps(state))
    if post: t.post_processor = post
    if added: t.add_tokens(list(added))
    keep(name, t, config)


def charsmap(pairs):
    """sentencepiece's table of replacements: a double array (darts-clone's units) over UTF-8, then the replacements."""
    values, blob = {}, b""
    for key, value in pairs.items():
        values[key.encode()] = len(blob)
        blob += value.encode() + b"\0"
    root = {}
    for key, value in values.items():
        node = root
        for byte in key: node = node.setdefault(byte, {})
        node[0] = value
    units, used = [0] * (1 << 16), {0}
    def place(node, at, label):
        base = 1
        while any((base ^ l) in used for l in node): base += 1
        used.update(base ^ l for l in node)
        units[at] = label | (0 in node) << 8 | (at ^ base) << 10
        for l, child in node.items():
            if l == 0: units[base] = child | 1 << 31
            else: place(child, base ^ l, l)
    place(root, 0, 0)
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + blob


import unicodedata
RULES = {chr(c): " " for c in [9, 10, 12, 13, 0x1680, 0x200b, 0x200d, 0x200e, 0x2028, 0xfeff]}
RULES |= {chr(c): "" for c in [*range(1, 9), 11, *range(14, 32), 127, 0x8f, 0x9f]}
RULES |= {chr(c): unicodedata.normalize("NFKC", chr(c)) for c in [*range(0xa0, 0x2000), *range(0x2100, 0x2200), *range(0x3300, 0x3400), *range(0xfb00, 0xfb50), *range(0xff00, 0xffef)] if unicodedata.normalize("NFKC", chr(c)) != chr(c)}
RULES |= {unicodedata.normalize("NFD", chr(c)): chr(c) for c in [*range(0xc0, 0x250), *range(0x1e00, 0x1f00)] if len(unicodedata.normalize("NFD", chr(c))) == 2}
RULES |= {"\r\n": "\n", "e\u0301\u0302": "?", "\u1100\u1161": "\uac00"}
CHARSMAPS = {"nfkc": charsmap(RULES), "folding": charsmap(RULES | {chr(c): chr(c).lower() for c in [*range(65, 91), *range(0x391, 0x3aa), *range(0x410, 0x430)]} | {"\u00df": "ss"})}


def precompiled(kind):
    return N.Precompiled(CHARSMAPS[kind])


roberta = X.RobertaProcessing(("</s>", 2), ("<s>", 0))
xlmr = X.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
t5 = X.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)])

wordpiece("bert-uncased", N.BertNormalizer(), P.BertPreTokenizer())
wordpiece("bert-cased", N.BertNormalizer(lowercase=False), P.BertPreTokenizer(), X.BertProcessing(("[SEP]", 3), ("[CLS]", 2)))
wordpiece("bert-multilingual", N.BertNormalizer(lowercase=True, strip_accents=False), P.BertPreTokenizer(), size=900)
wordpiece("bert-no-ideographs", N.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False), P.BertPreTokenizer(), chars=4)
wordpiece("wp-nfd", N.Sequence([N.NFD(), N.Lowercase(), N.StripAccents()]), P.Whitespace())
wordpiece("wp-nfkc-strip", N.Sequence([N.NFKC(), N.Strip()]), P.Sequence([P.WhitespaceSplit(), P.Punctuation("contiguous")]))
for behavior in ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]:
    wordpiece(f"wp-{behavior}", N.NFKD(), P.Sequence([P.Punctuation(behavior), P.Digits(behavior == "isolated"), P.Split(" ", behavior), P.Split(Regex(r"[aeiou]+|\s"), behavior, invert=behavior in ("contiguous", "merged_with_next"))]))
wordpiece("added", N.BertNormalizer(), P.BertPreTokenizer(), added=[AddedToken("oak", single_word=True), AddedToken("Brass", normalized=True), AddedToken(" kg", lstrip=True), AddedToken("[Q]", rstrip=True, normalized=False), AddedToken("<é>", normalized=True, lstrip=True, rstrip=True), AddedToken("oak pocket"), AddedToken("\u200d", normalized=False), AddedToken("سلا", single_word=True)])
wordpiece("wp-scripts", None, P.Sequence([P.UnicodeScripts(), P.CharDelimiterSplit(" "), P.FixedLength(3)]))
wordpiece("wp-anchors", N.Replace(Regex(r"^\s+|\s+$"), "_"), P.Sequence([P.Split(Regex(r"\b"), "isolated"), P.Split(Regex(r"(?<=\w)(?=\W)|\A.|[[:punct:]]"), "merged_with_previous"), P.WhitespaceSplit()]))
wordpiece("wp-empty-match", N.Replace(Regex(r"x*"), "-"), P.Sequence([P.WhitespaceSplit(), P.Split(Regex(r"a*"), "isolated")]))

level = Tokenizer(M.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
level.normalizer, level.pre_tokenizer = N.Sequence([N.NFC(), N.Lowercase()]), P.Sequence([P.Whitespace(), P.Digits(individual_digits=True)])
level.train_from_iterator(texts, T.WordLevelTrainer(vocab_size=400, special_tokens=["[UNK]", "[PAD]"], show_progress=False))
keep("wordlevel", level)

bpe("gpt2", None, P.ByteLevel(add_prefix_space=False), X.ByteLevel(trim_offsets=False), bytes_alphabet=True, special=["<|endoftext|>"])
bpe("roberta", None, P.ByteLevel(add_prefix_space=True), roberta, bytes_alphabet=True, added=[AddedToken("<mask>", lstrip=True, special=True)], config={"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True})
bpe("qwen2", N.NFC(), P.Sequence([P.Split(Regex(QWEN), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]), X.ByteLevel(), bytes_alphabet=True, special=["<|endoftext|>", "<|im_start|>"])
bpe("llama3", None, P.Sequence([P.Split(Regex(LLAMA3), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]), X.Sequence([X.ByteLevel(), X.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)])]), bytes_alphabet=True, ignore_merges=True)
bpe("cl100k", None, P.Sequence([P.Split(Regex(CL100K), "removed", invert=True), P.ByteLevel(add_prefix_space=False, use_regex=False)]), bytes_alphabet=True)
bpe("o200k", None, P.Sequence([P.Split(Regex(O200K), "removed", invert=True), P.ByteLevel(add_prefix_space=False, use_regex=False)]), bytes_alphabet=True)
bpe("kimi", None, P.Sequence([P.Split(Regex(KIMI), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]), bytes_alphabet=True)
bpe("deepseek", None, P.Sequence([P.Split(Regex(r), "isolated") for r in DEEPSEEK] + [P.Digits(True), P.ByteLevel(add_prefix_space=False, use_regex=False)]), bytes_alphabet=True)
bpe("starcoder", None, P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=False)]), bytes_alphabet=True)
bpe("modernbert", N.NFC(), P.ByteLevel(add_prefix_space=False), X.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]), bytes_alphabet=True, added=[AddedToken(" " * n, normalized=True) for n in range(2, 8)] + [AddedToken("<mask>", lstrip=True, special=True), AddedToken("\u00ad\u00ad")])
bpe("byte-normalizer", N.Sequence([N.NFKC(), N.ByteLevel()]), P.Split(Regex("Ġ+|[^Ġ]+"), "isolated"), bytes_alphabet=True)
bpe("llama", N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None, X.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)]), size=500, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
bpe("llama-first", None, P.Metaspace(prepend_scheme="first", split=False), size=500, unk_token="<unk>", fuse_unk=True, byte_fallback=True, added=[AddedToken("<q>", normalized=False), AddedToken("w0", normalized=True)])
bpe("gemma", N.Replace(" ", "▁"), P.Split(" ", "merged_with_previous"), size=500, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
bpe("fallback-holes", N.Replace(" ", "▁"), None, size=300, unk_token="<unk>", byte_fallback=True, extra=lambda s: [s["model"]["vocab"].pop(f"<0x{b:02X}>") for b in range(0xE2, 0xE5)])
bpe("clip", N.Sequence([N.NFC(), N.Replace(Regex(r"\s+"), " "), N.Lowercase()]), P.Sequence([P.Split(Regex(r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""), "removed", invert=True), P.ByteLevel(add_prefix_space=False)]), X.RobertaProcessing(("</s>", 2), ("<s>", 0)), bytes_alphabet=True, unk_token="<unk>", end_of_word_suffix="</w>", trainer={"end_of_word_suffix": "</w>"})
bpe("prefix", None, P.BertPreTokenizer(), size=400, unk_token="<unk>", continuing_subword_prefix="##", trainer={"continuing_subword_prefix": "##", "limit_alphabet": 40})
bpe("prefix-fused", None, P.WhitespaceSplit(), size=400, unk_token="<unk>", fuse_unk=True, continuing_subword_prefix="@", end_of_word_suffix="$", trainer={"continuing_subword_prefix": "@", "end_of_word_suffix": "$", "limit_alphabet": 30})
bpe("no-unk", None, P.WhitespaceSplit(), size=300, trainer={"limit_alphabet": 30})

squeeze = lambda to: N.Replace(Regex(" {2,}"), to)
unigram("xlm-r", N.Sequence([precompiled("nfkc"), squeeze(" ")]), P.Sequence([P.WhitespaceSplit(), P.Metaspace()]), xlmr, added=[AddedToken("<mask>", lstrip=True, special=True)], config={"tokenizer_class": "XLMRobertaTokenizer", "cls_token": "<s>", "mask_token": "<mask>"})
unigram("xlm-r-case-folding", N.Sequence([precompiled("folding"), squeeze("▁")]), P.Metaspace(), xlmr)
unigram("t5", N.Sequence([precompiled("nfkc"), N.Strip(left=False, right=True), squeeze("▁")]), P.Metaspace(prepend_scheme="always"), t5)
unigram("t5-first", N.Sequence([precompiled("nfkc"), N.Strip(left=False, right=True), squeeze("▁")]), P.Metaspace(prepend_scheme="first"), t5, added=[AddedToken("<q>", normalized=False)])
unigram("uni-first", N.NFKC(), P.Sequence([P.WhitespaceSplit(), P.Metaspace(prepend_scheme="first")]), xlmr)
unigram("uni-first-removed", N.Sequence([N.Nmt(), N.StripAccents(), N.Strip(), N.Replace("w", "")]), P.Metaspace(prepend_scheme="first"))
unigram("albert", N.Sequence([N.Replace("``", '"'), N.Replace("''", '"'), N.NFKD(), N.StripAccents(), N.Lowercase(), precompiled("nfkc"), squeeze(" ")]), P.Metaspace(prepend_scheme="always"), X.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]))
unigram("deberta-v3", N.Sequence([N.Strip(), precompiled("nfkc"), squeeze(" ")]), P.Sequence([P.Punctuation("isolated"), P.Metaspace()]), xlmr)
unigram("unigram-bytes", N.Nmt(), P.Metaspace(split=False, prepend_scheme="never"), t5, fallback=True)
unigram("xlmr-like", N.Sequence([N.Nmt(), N.NFKC(), squeeze(" ")]), P.Metaspace(replacement="_"), xlmr)
print(json.dumps(made))
