"""Bad tokenizers, GGUF files and texts."""
import json
import os
import struct

from inputs import LLAMA, NO_FILES, array, gguf, hole, hole_text, key, no_regular_file, put, string

SPLIT = {"type": "Split", "behavior": "Isolated", "invert": False}


def tokenizers(m):
    good = json.load(open(m.good + "/tokenizer.json"))

    def row(what, data, says, code=3, large=False, name="tokenizer.json", text=None):
        if large and not m.large:
            return
        model = m.model(name)
        put(f"{model}/{name}", data)
        m.add(name, what, m.tokenize_args(model, text and put(m.new("a.txt"), text)), says, code)

    def changed(what, says, code=3, large=False, text=None, **fields):
        row(what, json.dumps({**good, **fields}), says, code, large, text=text)

    def bpe(**fields):
        return {"model": {**good["model"], **fields}}

    def pattern(expression):
        return {"pre_tokenizer": {**SPLIT, "pattern": {"Regex": expression}}}

    row("empty", "", "not valid JSON")
    row("64 levels and one", "[" * 65, "too deep")
    row("a key twice", '{"version": "1.0", "version": "1.0"}', "duplicate JSON key")
    row("not UTF-8", b'{"version": "\xff"}', "not valid JSON")
    row("64 MB and a byte", lambda: hole_text(64 << 20), "too large", large=True)
    row("64 MB of open brackets", lambda: "[" * (64 << 20), "too deep", large=True)
    row("a string of 16 MB and a byte", '"' + "x" * (1 << 24) + '"', "token too long")
    changed("no vocabulary", "empty", **bpe(vocab={}, merges=[]))
    changed("an id of 2^40", "out of range", **bpe(vocab={"a": 1 << 40}, merges=[]))
    changed("an id twice", "two tokens have the id", **bpe(vocab={"a": 0, "b": 0}, merges=[]))
    changed("a merge of no tokens", "not in the vocabulary", **bpe(vocab={"a": 0}, merges=[["a", "b"]]))
    changed("a model that is not BPE", "not supported", model={"type": "WordPiece"})
    changed("an expression that is none", "unclosed group", **pattern("(a"))
    changed("an expression of 2^32 steps", "regular expression", **pattern("((a{1,60000}){60000}){60000}"))
    changed("an expression of 16 KiB and a byte", "too long", **pattern("a" * (16384 + 1)))
    changed("an expression that tries all ways", "takes too long", text="a" * 100_000 + "\n",
            **pattern("(a|aa|a)*[bc]"))
    changed("65 stages", "more than 64", pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {**SPLIT, "pattern": {"Regex": "a{1,2000}"}}] * 65})
    changed("100,000 stages", "more than 64", pre_tokenizer={
        "type": "Sequence", "pretokenizers": [{"type": "Punctuation"}] * 100_000})
    big = {**SPLIT, "pattern": {"Regex": "(?:[ab]{1,200}|[cd]{1,200}){1,5}"}}
    changed("64 stages of large expressions", "", code=0, pre_tokenizer={"type": "Sequence", "pretokenizers":
            [big] * 63 + [{"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]})
    double = {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}
    changed("a normalizer that doubles a letter 64 times", "makes too much", normalizer={
        "type": "Sequence", "normalizers": [double] * 64})
    changed("a normalizer that writes 16 MB for a letter", "makes too much", normalizer={
        **double, "content": "x" * ((1 << 24) - 8)})
    changed("a normalizer of 100,000 steps", "more than 64", normalizer={
        "type": "Sequence", "normalizers": [double] * 100_000})
    changed("a decoder of 100,000 steps", "more than 64", decoder={"type": "Sequence", "decoders": [
        {"type": "Fuse"}] * 100_000})
    changed("an added token of 4 KB and a byte", "too long", added_tokens=[
        {"id": 2048, "content": "x" * 4097, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}])
    row("3,900,000 tokens", lambda: '{"model":{"vocab":{' + ",".join(f'"{i:x}":{i}' for i in range(3_900_000)) +
        '},"merges":[]}}', "", 0, True)
    row("1,390,000 merges", lambda: '{"model":{"vocab":{"a":0,"aa":1},"merges":[' + ",".join(
        ['["a","a"]'] * 1_390_000) + "]}}", "", 0, True)
    for how, says in NO_FILES.items():
        model = m.model("tokenizer.json")
        no_regular_file(model + "/tokenizer.json", how)
        m.add("tokenizer.json", how, m.tokenize_args(model), says)

    def beside(name, what, data, says, code=3, large=False):
        row(what, data, says, code, large, name)

    config = "tokenizer_config.json"
    beside(config, "not an object", "[]", "not an object")
    beside(config, "an id that is none", '{"added_tokens_decoder": {"x": {}}}', "not a token id")
    beside(config, "a million added tokens", lambda: '{"added_tokens_decoder":{' + ",".join(
        f'"{i}":{{"content":"{i:x}"}}' for i in range(1_000_000)) + "}}", "allowed", large=True)
    beside("special_tokens_map.json", "three million members", lambda: "{" + ",".join(
        f'"{i}":0' for i in range(3_000_000)) + "}", "", 0, True)
    for how, says in NO_FILES.items():
        model = m.model()
        no_regular_file(model + "/" + config, how)
        m.add(config, how, m.tokenize_args(model), says)

    def chat(what, name, text, says):
        model = m.model()
        put(f"{model}/{name}", text)
        m.add(name, what, ["generate", "-m", model, "--chat", "-p", "Hi", "-n", "1", "-q"], says)

    chat("a chat template of no known format", "chat_template.jinja", "{{ messages }}", "no known format")
    chat("a chat template of 128 KB and a byte", "chat_template.jinja", "x" * ((128 << 10) + 1), "too large")
    chat("a chat template that begins 6,000 texts", "chat_template.jinja",
         "<|im_end|" + "<|im_start|>system\n" * 6000, "no known format")
    chat("a template's name as a number", config, '{"chat_template": [{"name": 1, "template": "x"}]}', "chat_template")


def ggufs(m):
    def row(what, data, says, large=False):
        if large and not m.large:
            return
        m.add("GGUF", what, m.tokenize_args(put(m.new("a.gguf"), data)), says)

    row("empty", b"", "not a GGUF file")
    row("another format", b"PK\3\4" + bytes(100), "not a GGUF file")
    row("cut off behind the magic", b"GGUF\3\0", "past the file")
    row("version 1", gguf([], version=1), "version 1 is not supported")
    row("big-endian", gguf([], version=3 << 24), "big-endian")
    row("2^62 keys", gguf([], n_keys=1 << 62), "65536 at most")
    row("2^62 tensors", gguf([], n_tensors=1 << 62), "524288 at most")
    row("a key of 2^62 bytes", gguf([struct.pack("<Q", 1 << 62) + b"x"]), "at most")
    row("a string of 2^62 bytes", gguf([key("a", 8, struct.pack("<Q", 1 << 62))]), "at most")
    row("an array of 2^62 numbers", gguf([key("a", 9, struct.pack("<IQ", 10, 1 << 62))]), "a")
    row("an array of arrays", gguf([key("a", 9, struct.pack("<IQ", 9, 1))]), "arrays of arrays")
    row("a type that is none", gguf([key("a", 99, b"")]), "not a GGUF type")
    row("a key twice", gguf([key("a", 0, b"1")] * 2), "there twice")
    row("a key that is not UTF-8", gguf([key("tokenizer.ggml.model", 8, string(b"\xff"))]), "not UTF-8")
    row("alignment 3", gguf([key("general.alignment", 4, struct.pack("<I", 3))]), "power of two")
    row("5 dimensions", gguf([], [("a", [1] * 5, 0, 0)]), "dimensions")
    row("2^64 elements", gguf([], [("a", [1 << 32, 1 << 32], 0, 0)]), "shape")
    row("an offset of 2^63", gguf([], [("a", [8], 0, 1 << 63)]), "past the file")
    row("a tensor type that is none", gguf([], [("a", [8], 999, 0)]), "not a GGUF tensor type")
    row("a tensor behind the end", gguf([], [("a", [1 << 20], 0, 0)]), "past the file")
    row("a tensor twice", gguf([], [("a", [8], 0, 0)] * 2), "there twice")
    tokens = [key("tokenizer.ggml.model", 8, string("llama"))]
    row("tokens that are numbers", gguf(tokens + [array("tokenizer.ggml.tokens", 4, [b"\0\0\0\0"])]), "array of strings")
    row("fewer scores than tokens", gguf(tokens + [array("tokenizer.ggml.tokens", 8, [string("a")]),
                                                   array("tokenizer.ggml.scores", 6, [])]), "0 numbers for 1 tokens")

    def pieces(*texts):
        return gguf(tokens + [array("tokenizer.ggml.tokens", 8, [string(t) for t in texts]),
                              array("tokenizer.ggml.scores", 6, [bytes(4)] * len(texts))])

    row("a piece of 50 MB", lambda: pieces("a" * 50_000_000), "squares", True)
    row("200,000 pieces of 253 bytes", lambda: pieces(*("a" * i for i in range(1, 257)), *(
        "%x" % i + "a" * 248 for i in range(1 << 16, (1 << 16) + 200_000))), "squares", True)
    row("65,537 keys", gguf([key(str(i), 0, b"1") for i in range(65_537)]), "65536 at most")
    row("500,000 tensors", lambda: gguf(LLAMA, [(f"{i}", [8], 0, 32 * i) for i in range(500_000)]) + bytes(32 * 500_000), "",
        True)
    row("100 MB of keys' texts", lambda: gguf([key(f"{i}", 8, string("x" * 65_000)) for i in range(1_600)]), "at most", True)
    blocks = [(f"blk.{layer}.ffn_{what}_exps.weight", [4096, 1, 32], 0, 0) for layer in range(256) for what in
              ("gate", "up")]
    blocks = [(name, shape, kind, i * 4096 * 32 * 4) for i, (name, shape, kind, _) in enumerate(blocks)]
    head = gguf(LLAMA, blocks)
    path = hole(m.new("experts.gguf"), len(head) + len(blocks) * 4096 * 32 * 4, head)
    m.add("GGUF", "512 tensors of 4096 experts", m.run_args(path), "more than 524288 tensors")
    path = put(m.new("a-00001-of-01024.gguf"), gguf([key("split.count", 2, struct.pack("<H", 1024)),
                                                     key("split.no", 2, b"\0\0")]))
    m.add("GGUF", "a part of 1024 alone", m.run_args(path), "no such file")
    for how in NO_FILES:
        path = no_regular_file(m.new("a.gguf"), how)
        m.add("GGUF", how, m.run_args(path), "a.gguf")


def texts(m):
    model = m.good

    def row(what, data, says, code=0, large=False, tokens="64"):
        if m.large or not large:
            m.add("text", what, ["tokenize", "-m", model, "-f", put(m.new("a.txt"), data), "--tokens", tokens], says,
                  code)

    row("empty", "", "too short", 3)
    row("not UTF-8", b"caf\xe9", "not UTF-8", 3)
    row("a surrogate", b"\xed\xa0\x80" * 9, "not UTF-8", 3)
    for what, one in {"one letter": "a", "spaces": " ", "digits": "1", "line ends": "\n",
                      "combining marks": "\u0301\u0323", "letters and marks": "e\u0301", "letters of Hangul":
                      "\u1100\u1161\u11a8", "emoji": "\U0001f600"}.items():
        n = (8 << 20) // len(one.encode())
        row(f"8 MB of {what} without a line end", one * n, "", 0, True, "0")
    if m.large:
        m.add("text", "a hole of 512 MiB", m.tokenize_args(model, hole(m.new("a.txt"), 1 << 29)),
              "matches more than")
        m.add("text", "a device that never ends", m.tokenize_args(model, "/dev/zero"), "matches more than")
    m.add("text", "a folder", m.tokenize_args(model, m.new()), "it is a folder")
    m.add("text", "links in a circle", m.tokenize_args(model, no_regular_file(m.new("a"), "links in a circle")),
          "Too many levels")

    def ids(what, data, says, large=False):
        if m.large or not large:
            m.add("token ids", what, ["dump", "-m", model, "--ids", put(m.new("ids.txt"), data), "--tokens", "4", "-o",
                                      m.new("acts.h5"), "-q"], says)

    ids("empty", "", "too short")
    ids("a word", "1 two 3 4", "not a token id")
    ids("beyond the vocabulary", "1 2 3 99999999", "out of range")
    ids("negative", "1 -2", "out of range")
    ids("a number of 50 MB", lambda: "1" * 50_000_000, "out of range", True)
    ids("50 MB of separators", lambda: "," * 50_000_000, "too short", True)
    ids("bytes", bytes(range(256)), "not a token id")
