#!/usr/bin/env python3
"""Compares `blockgtq tokenize` with the Hugging Face `tokenizers` library, id by id.

    compare_tokenizers.py BLOCKGTQ [TEXT ...]

BLOCKGTQ is called as `BLOCKGTQ tokenize -m DIR -f FILE --tokens 0` and prints one id per line. TEXT are more files to encode.
The tokenizers are made here: the pre-tokenizers of the supported families and odd ones, each with two models,
one trained on this folder's texts and one in which every pair of bytes merges, so that a cut in another place shows.
Many strings go into one file with a special token between them; both sides encode the whole file.
Exit: 0 same, 1 different, 77 skipped.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

try:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
except ImportError:
    print("skipped: no tokenizers library")
    sys.exit(77)

SEPARATOR = "<|sep|>"
BEHAVIORS = ("isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous")
EVERY_CODE_POINT = ("qwen2", "nemo", "deepseek2", "deepseek2-own", "deepseek3", "gpt2", "digits", "nfkd", "contiguous-invert",
                    "falcon", "whitespace", "punctuation-isolated")
SPACE = "\u2581"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
NEMO = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
POSSESSIVE = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
              r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s")
# DeepSeek-V2 names letters one by one: U+0294 is none of them, U+0295 is.
DEEPSEEK2 = ("\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
             "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
             "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u1c90-\u1cba\u1e00-\u1f15\u2c00-\u2c7b\u2c7e-\u2ce4\ua640-\ua66d"
             "\uab70-\uabbf\ufb00-\ufb06\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U0001e900-\U0001e943]+")
DEEPSEEK2_MARKS = "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
DEEPSEEK3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
             r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern, behavior="isolated", invert=False, regex=True):
    return pre_tokenizers.Split(Regex(pattern) if regex else pattern, behavior, invert)


def then_bytes(*parts, **options):
    options = {"add_prefix_space": False, "use_regex": False, **options}
    return pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(**options)])


def variants():
    """name -> (normalizer, pre-tokenizer)."""
    yield "qwen2", normalizers.NFC(), then_bytes(split(QWEN2))
    yield "llama3", None, then_bytes(split(LLAMA3))
    yield "nemo", None, then_bytes(split(NEMO))
    yield "o200k", None, then_bytes(split(O200K))
    yield "glm4", None, then_bytes(split(LLAMA3, "removed", True))
    yield "possessive", None, then_bytes(split(POSSESSIVE))
    yield "deepseek2", normalizers.Sequence([]), then_bytes(
        split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
        pre_tokenizers.Digits(individual_digits=True))
    yield "deepseek2-own", normalizers.Sequence([]), then_bytes(
        split(r"[\r\n]"), split(DEEPSEEK2), split(DEEPSEEK2_MARKS), split(r"\s+$"),
        split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"), pre_tokenizers.Digits(individual_digits=True))
    yield "falcon", None, pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.Digits(individual_digits=False), split("[0-9][0-9][0-9]")])
    yield "falcon-prefix", None, pre_tokenizers.Sequence([
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False), split("\u0120", "merged_with_next", False, False),
        pre_tokenizers.Punctuation("removed")])
    yield "whitespace", None, then_bytes(pre_tokenizers.Whitespace())
    yield "whitespace-split", None, then_bytes(pre_tokenizers.WhitespaceSplit(), add_prefix_space=True)
    for behavior in BEHAVIORS:
        yield "punctuation-" + behavior, None, then_bytes(pre_tokenizers.Punctuation(behavior))
    yield "deepseek3", normalizers.Sequence([]), then_bytes(
        split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), split(DEEPSEEK3))
    yield "gpt2", None, pre_tokenizers.ByteLevel(add_prefix_space=False)
    yield "gpt2-prefix", None, pre_tokenizers.ByteLevel(add_prefix_space=True)
    yield "prefix-words", normalizers.NFKC(), then_bytes(split(r"\s+", "merged_with_next"), add_prefix_space=True)
    yield "digits", normalizers.NFD(), then_bytes(pre_tokenizers.Digits(individual_digits=False), use_regex=True)
    yield "nfkd", normalizers.Sequence([normalizers.NFKD(), normalizers.NFC()]), then_bytes(split(r"\S+|\s", "isolated"))
    for behavior in BEHAVIORS:
        for invert in (False, True):
            name = behavior + ("-invert" if invert else "")
            yield name, None, then_bytes(split(r"[\p{P}\p{S}\s]", behavior, invert))
        yield behavior + "-text", None, then_bytes(split("a.", behavior, False, False))
        yield behavior + "-empty", None, then_bytes(split(r"a*|\d{2}", behavior))
    yield "lines", None, then_bytes(split(r"^.{,3}$|(?>a+)b{2}?c|[^\S\n]{2,}|\x41\u0042\x{43}|\P{^L}(?=\d)"))
    yield "null", normalizers.NFC(), None


def sentencepiece_variants():
    """name -> (normalizer, pre-tokenizer, options of the model); as Llama-2, Mistral, Gemma and Phi-3, and odd ones."""
    def metaspace(scheme, split):
        return pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme, split=split)
    prepend = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    full = {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    yield "llama2", prepend, None, full
    yield "llama2-ignore-merges", prepend, None, {**full, "ignore_merges": True}
    yield "gemma", normalizers.Replace(" ", SPACE), split(" ", "merged_with_previous", False, False), full
    for scheme in ("always", "first", "never"):
        for cut in (False, True):
            yield f"metaspace-{scheme}-{cut}", None, metaspace(scheme, cut), {**full, "ignore_merges": cut}
    yield "metaspace-words", normalizers.NFC(), pre_tokenizers.Sequence([split(r"\d"), metaspace("first", True)]), full
    yield "no-fallback", prepend, None, {"fuse_unk": True, "unk_token": "<unk>"}
    yield "no-fallback-each", None, metaspace("always", False), {"unk_token": "<unk>"}
    yield "dropped", prepend, None, {}
    yield "some-bytes", prepend, None, {**full, "missing": ("<0xC3>", "<0xE4>", "<0xF0>")}
    yield "some-bytes-each", prepend, None, {**full, "fuse_unk": False, "missing": ("<0xC3>", "<0xE4>", "<0xF0>")}
    yield "replace", normalizers.Sequence([normalizers.Replace(Regex(r"[\p{N}\s]+"), " 7"), normalizers.Replace("a", "ae"),
                                           normalizers.Replace(Regex("e|"), "-")]), metaspace("first", True), full


def sentencepiece_model(texts, whole_lines):
    """Vocabulary with bytes, merges; trained on words, or on whole lines, so that tokens reach across spaces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = None if whole_lines else pre_tokenizers.Metaspace(SPACE)
    trainer = trainers.BpeTrainer(vocab_size=2500, show_progress=False, limit_alphabet=400,
                                  special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)])
    tokenizer.train_from_iterator([line for text in texts for line in text.splitlines(keepends=True)], trainer)
    return json.loads(tokenizer.to_str())["model"]


def sentencepiece_tokenizers(texts):
    for kind in ("words", "lines"):
        trained_model = sentencepiece_model(texts, kind == "lines")
        for name, normalizer, pre_tokenizer, options in sentencepiece_variants():
            model = {**trained_model, "vocab": dict(trained_model["vocab"]), **options}
            for token in model.pop("missing", ()):
                del model["vocab"][token]
            empty = Tokenizer(models.BPE())
            if normalizer:
                empty.normalizer = normalizer
            if pre_tokenizer:
                empty.pre_tokenizer = pre_tokenizer
            yield f"{name}, {kind}", json.loads(empty.to_str()), model


def added_tokens():
    def token(text, special=False, **options):
        return AddedToken(text, special=special, **{"normalized": False, **options})
    return [
        token(SEPARATOR, True), token("<|im_start|>", True), token("<|im_end|>", True), token("<|im|>"), token("<|im"),
        token("[INST]"), token("[INST]]"), token("<l>", lstrip=True), token("<r>", rstrip=True),
        token("<lr>", lstrip=True, rstrip=True), token("word", single_word=True), token("wor", single_word=True),
        token("  "), token("\u00e9t\u00e9", normalized=True), token("e\u0301", normalized=True), token("\u212b"),
        token("Caf\u00e9 x", normalized=True, lstrip=True), token("\U0001f469\u200d\U0001f4bb"), token("\n\n\n"),
        token("na\u00efve", normalized=True, single_word=True, rstrip=True),
    ]


def sources():
    root = pathlib.Path(__file__).resolve().parents[2]
    texts = [p.read_text(encoding="utf-8") for folder in ("lib/hf", "tests/hf") for p in sorted((root / folder).iterdir())
             if p.suffix in (".h", ".cpp", ".py")]
    return texts + [sample_of_scripts()]


def sample_of_scripts():
    """Words of every block of 128 code points, and their numbers."""
    rng = random.Random(5)
    lines = []
    for start in list(range(0xA0, 0x3400, 0x80)) + [0x4E00, 0x5200, 0xAC00, 0x10400, 0x1F600, 0x20000]:
        letters = [chr(c) for c in range(start, start + 128) if unicodedata.category(chr(c))[0] in "LMNSP"]
        for _ in range(12 if letters else 0):
            lines.append(" ".join("".join(rng.choices(letters, k=rng.randint(1, 5))) for _ in range(6)))
    return "\n".join(lines)


def trained(pre_tokenizer, normalizer, texts):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet() if pre_tokenizer else list(map(chr, range(32, 127)))
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False, limit_alphabet=700)
    pieces = [line for text in texts for line in text.splitlines(keepends=True)]
    tokenizer.train_from_iterator(pieces, trainer)
    return json.loads(tokenizer.to_str())["model"]


def all_pairs():
    """Every pair of bytes merges, in a random order, into tokens with ids that are not dense."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rng = random.Random(7)
    pairs = [(a, b) for a in alphabet for b in alphabet]
    rng.shuffle(pairs)
    tokens = alphabet + [a + b for a, b in pairs]
    return {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": [list(p) for p in pairs]}


def nasty_strings():
    rng = random.Random(11)
    contractions = ["it's", "IT'S", "it'\u017f", "we'RE", "I'Ve", "he'LL'd", "'t'm'x", "can\u2019t", "'S'\u017ft", "o''s", "K\u212a's"]
    spaces = [" ", "  ", "\t", "\n", "\r", "\r\n", "\n\r", "\x0b", "\x0c", "\x85", "\xa0", "\u1680", "\u180e", "\u2000",
              "\u2009", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", "\x1c", "\x1f"]
    words = ["a", "A", "word", "Word", "\u00e9t\u00e9", "na\u00efve", "1", "12345", "3.14", "\u0663\u0664", "\u00bd", "\u2167", "\u4e2d\u6587",
             "\u3042\u30a2", "\ud55c\uae00", "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627", "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0e20\u0e32\u0e29\u0e32", "!", "...", "_", "$", "+",
             "\U0001f469\u200d\U0001f4bb", "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd", "\u2764\ufe0f", "\x00", "\x01", "\x7f", "\u0300", "\u01c5", "\u02b0", "\u00aa",
             "\U0001d7d8", "\U00031350", "\U00010d50", "\ufffe", "\U0010ffff", "\ue000", "\u0378"] + contractions
    nfc = ["e\u0301", "E\u0301\u0323", "\u0323\u0301e", "\u1e0b\u0323", "\u1100\u1161\u11a8", "\uac00\u11a8", "\uac00\u11a7", "\u1101\u1161\u11a7\u11a8", "\u1100\u1161", "\u1161\u11a8",
           "\u212b", "\u2126", "\uf900", "\ufb01", "\u0958", "\u0344", "\u1d15e", "\U0001d15e", "\U0002f800", "\u09c7\u09be", "\u0b47\u0b56\u0b3e",
           "\U00011935\U00011930", "\U00016d63\U00016d67", "a\U0001e2ae\u0334", "a\u0345\u0334\u1ac9\u0301", "\u0f71\u0f72\u0f74", "\u3099\u304b\u3099", "q\u0307\u0323\u0307",
           "e" + "\u0301" * 40, "\u0041\u030a", "\u226e", "<\u0338", "\u2adc", "\u1e9b\u0323", "\u00b5", "\u2460", "\u3392", "\ufdfa"]
    tokens = [t.content for t in added_tokens()] + ["<|im_", "<|i", "<|im_end|", "[INST]]]", "<l", "words", "sword", "wo", "   ", "    "]
    out = [""]
    out += spaces + words + nfc + tokens
    out += [a + b for a in words + nfc for b in ("\n", " ", "1", "a", "\u0301", ".", "'s", " \n", "\r\n\r\n")]
    out += [b + a for a in words + nfc for b in ("\n", " ", "1", "a", "\u0301", ".", "  ", "\t ", "\u3000")]
    out += [s + t for s in spaces for t in spaces] + [s * n + "x" for s in spaces for n in (2, 3, 7)]
    out += [p + t + s for t in tokens for p in ("", " ", "  ", "\u3000\n", "a", "_", "\u00e9", "\u0301", "\u200d", "<r>", "<r> ") for s in ("", " ", " \t ", "b", "9", "-", "\u00e9", "<l>", " <l>", "\u200c")]
    out += [t + u for t in tokens for u in tokens] + [t + "  " + u for t in tokens for u in tokens]
    out += ["9" * n for n in range(1, 12)] + ["\r\n" * 5, "a\r\n b\r c\n\n d", "\ufeffabc", "a\x00b\x00", "aa.a.aab a.", "aaabbc aabc ABC x1 1x"]
    out += ["x" * 3000, " " * 3000, "\n" * 500 + " ", "ab" * 2000, "1" * 3000, "\u4e2d" * 1000, "!" * 2000, "e\u0301" * 500, " \n" * 800]
    pool = words * 3 + nfc + spaces * 2 + tokens
    for _ in range(4000):
        out.append("".join(rng.choices(pool, k=rng.randint(1, 14))))
    for _ in range(3000):
        top = rng.choice([0x80, 0x250, 0x800, 0x3100, 0x10000, 0x20000, 0x32000, 0x110000])
        points = [rng.randrange(top) for _ in range(rng.randint(1, 24))]
        out.append("".join(chr(c) for c in points if not 0xD800 <= c <= 0xDFFF))
    marks = [chr(c) for c in range(0x300, 0x1F000) if unicodedata.combining(chr(c))]
    starters = [chr(c) for c in range(0x41, 0x3100) if unicodedata.category(chr(c))[0] == "L"]
    for _ in range(3000):
        out.append(rng.choice(starters) + "".join(rng.choices(marks, k=rng.randint(1, 5))))
    return [s for s in out if SEPARATOR not in s] + ["<r>", "  x"]


def code_points():
    """Every code point (one in 16 where whole planes are alike) among letters, digits, spaces."""
    plain = set(range(0x3300, 0xD800)) | set(range(0xE000, 0xF900)) | set(range(0x17000, 0x18D00)) | set(range(0x20000, 0x32000))
    out = []
    for c in range(0x32400):
        if 0xD800 <= c < 0xE000 or (c in plain and c % 16 not in (0, 15)):
            continue
        x = chr(c)
        out.append(f"ab{x}{x}c1{x} {x}A{x}\n{x}'s,{x}")
    out += [f"ab{chr(c)}c1{chr(c)}" for c in range(0x32400, 0x110000, 997)]
    return out


def encode_here(blockgtq, folder, text):
    path = folder / "text.txt"
    path.write_bytes(text.encode())
    done = subprocess.run([blockgtq, "tokenize", "-m", str(folder), "-f", str(path), "--tokens", "0"], capture_output=True, check=False)
    if done.returncode:
        raise SystemExit("blockgtq failed: " + done.stderr.decode())
    return [int(line) for line in done.stdout.split()]


def parts(ids, separator):
    out = [[]]
    for i in ids:
        if i == separator:
            out.append([])
        else:
            out[-1].append(i)
    return out


def compare(name, blockgtq, folder, tokenizer, strings):
    """The number of strings that differ."""
    text = SEPARATOR.join(strings)
    theirs = tokenizer.encode(text, add_special_tokens=False).ids
    if not theirs:
        return 0  # a text without tokens is an error to blockgtq
    ours = encode_here(blockgtq, folder, text)
    if ours == theirs:
        return 0
    separator = tokenizer.token_to_id(SEPARATOR)
    bad = [(s, a, b) for s, a, b in zip(strings, parts(ours, separator), parts(theirs, separator)) if a != b]
    print(f"{name}: {len(bad)} of {len(strings)} strings differ")
    for s, a, b in bad[:5]:
        shown = s if len(s) < 80 else s[:80] + "..."
        print(f"  {ascii(shown)}\n    here     {[tokenizer.id_to_token(i) for i in a][:40]}\n    library  {[tokenizer.id_to_token(i) for i in b][:40]}")
    return max(1, len(bad))


def write_model(folder, name, base, model, tokens):
    """tokenizer.json of this variant; a few have their merges as strings, a token for unknown symbols, ignore_merges."""
    model = dict(model)
    if name in ("glm4", "gpt2", "removed"):
        model["merges"] = [" ".join(m) for m in model["merges"]]
    if name in ("llama3", "gpt2-prefix"):
        model["ignore_merges"] = True
    if name in ("isolated", "removed-invert", "contiguous") and len(model["vocab"]) < 60000:
        # Bytes without a token: dropped, one unknown token each, or one for a run of them.
        missing = {c for c in "\u0120acegi\u00e9\u00c3" if c in model["vocab"]}
        model["merges"] = [m for m in model["merges"] if not missing & set("".join(m))]
        model["vocab"] = {t: 3 * i for t, i in model["vocab"].items() if not missing & set(t) or len(t) > 3}
        if name != "isolated":
            model["vocab"]["<unk>"] = 2
            model["unk_token"] = "<unk>"
            model["fuse_unk"] = name == "contiguous"
    parts = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    base["model"] = {**parts, **model}
    n = len(base["model"]["vocab"])
    known = base["model"]["vocab"]
    base["added_tokens"] = []
    for t in tokens:
        at = known.get(t.content)
        if at is None:
            at, n = n, n + 1
        base["added_tokens"].append({"id": at, "content": t.content, "single_word": t.single_word, "lstrip": t.lstrip,
                                     "rstrip": t.rstrip, "normalized": t.normalized, "special": t.special})
    config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1,
              "num_key_value_heads": 1, "head_dim": 64, "vocab_size": 1 << 20, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "max_position_embeddings": 2048, "hidden_act": "silu"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(base, ensure_ascii=False), encoding="utf-8")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def main():
    blockgtq, files = sys.argv[1], [pathlib.Path(p).read_text(encoding="utf-8") for p in sys.argv[2:]]
    texts, strings, points, pairs = sources(), nasty_strings(), code_points(), all_pairs()
    # The unknown-symbol cases of write_model() need a trained vocabulary, the other behaviours only cuts.
    one_model = {f"punctuation-{b}" for b in BEHAVIORS} | {"whitespace", "whitespace-split", "falcon-prefix"}
    one_model |= {f"{b}{s}" for b in BEHAVIORS for s in ("", "-invert", "-text", "-empty")} - {"isolated", "removed",
                                                                                            "removed-invert", "contiguous"}
    count = failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name, normalizer, pre_tokenizer in variants():
            for kind in ("trained", "pairs"):
                if (name == "null" and kind == "pairs") or (name in one_model and kind == "trained"):
                    continue
                empty = Tokenizer(models.BPE())
                if normalizer:
                    empty.normalizer = normalizer
                if pre_tokenizer:
                    empty.pre_tokenizer = pre_tokenizer
                    empty.decoder = decoders.ByteLevel()
                model = trained(pre_tokenizer, normalizer, texts) if kind == "trained" else pairs
                tokenizer = write_model(folder, name, json.loads(empty.to_str()), model, added_tokens())
                sets = [("strings", strings)]
                if kind == "pairs" and name in EVERY_CODE_POINT:
                    sets.append(("code points", points))
                if kind == "trained":
                    sets += [("text", [t]) for t in texts + files]
                for what, some in sets:
                    failures += compare(f"{name}, {kind}, {what}", blockgtq, folder, tokenizer, some)
                    count += len(some)
                for s in strings[::1500]:  # by themselves: the start and end of a file
                    if SEPARATOR not in s:
                        failures += compare(f"{name}, {kind}, alone", blockgtq, folder, tokenizer, [s])
                        count += 1
        for name, base, model in sentencepiece_tokenizers(texts):
            tokenizer = write_model(folder, name, base, model, added_tokens())
            for what, some in [("strings", strings), *(("text", [t]) for t in texts[-1:] + files)]:
                failures += compare(f"{name}, {what}", blockgtq, folder, tokenizer, some)
                count += len(some)
            for s in strings[::1500]:
                if SEPARATOR not in s:
                    failures += compare(f"{name}, alone", blockgtq, folder, tokenizer, [s])
                    count += 1
    print(f"{count} strings compared, {failures} differ")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
