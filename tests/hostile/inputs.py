"""Bad inputs of every kind, made in a folder: what is wrong, the command that reads it, and what it must say."""
import json
import os
import shutil
import struct
from collections import namedtuple

# code: the exit code; says: part of the error line, where there is to be one.
Row = namedtuple("Row", "kind what args code says")


def put(path, data):
    """data: bytes, text, a list of these, or a function that makes them."""
    if callable(data):
        data = data()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        for part in [data] if isinstance(data, (bytes, str)) else data:
            out.write(part.encode() if isinstance(part, str) else part)
    return path


def hole(path, size, begin=b""):
    """A file of this size that takes no room on the disk."""
    put(path, begin)
    os.truncate(path, size)
    return path


def no_regular_file(path, how):
    """Something that is not a regular file, under a name where one is looked for."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.remove(path)
    if how == "a folder":
        os.mkdir(path)
    elif how == "a FIFO":
        os.mkfifo(path)
    elif how == "a device":
        os.symlink("/dev/zero", path)
    elif how == "links in a circle":
        os.symlink(path, path)
    elif how == "a link to nowhere":
        os.symlink("nowhere", path)
    return path


NO_FILES = {"a folder": "folder", "a FIFO": "not a regular file", "a device": "not a regular file",
            "links in a circle": "Too many levels of symbolic links"}


def safetensors(header, data=b""):
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + data


def string(text):
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text


def key(name, kind, value):
    return string(name) + struct.pack("<I", kind) + value


def array(name, kind, values):
    return key(name, 9, struct.pack("<IQ", kind, len(values)) + b"".join(values))


def gguf(keys, tensors=(), version=3, n_keys=None, n_tensors=None):
    """tensors: (name, shape, type, offset)."""
    out = bytearray(b"GGUF") + struct.pack("<IQQ", version, len(tensors) if n_tensors is None else n_tensors,
                                len(keys) if n_keys is None else n_keys) + b"".join(keys)
    for name, shape, kind, offset in tensors:
        out += string(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in reversed(shape))
        out += struct.pack("<IQ", kind, offset)
    return bytes(out) + bytes(-len(out) % 32)


LLAMA = [key("general.architecture", 8, string("llama"))] + [
    key("llama." + name, 4, struct.pack("<I", value)) for name, value in
    [("block_count", 1024), ("embedding_length", 32), ("feed_forward_length", 1), ("attention.head_count", 2),
     ("context_length", 64), ("vocab_size", 32), ("expert_count", 4096), ("expert_used_count", 1)]] + [
    key("llama." + name, 6, struct.pack("<f", value)) for name, value in
    [("attention.layer_norm_rms_epsilon", 1e-5), ("rope.freq_base", 1e4)]]


class Maker:
    """Makes inputs in a folder, has `check` called with a row for each, and removes them."""

    def __init__(self, source, folder, binary, large, check):
        self.source, self.folder, self.binary, self.large, self.check = source, folder, binary, large, check
        self.n, self.kept = 0, set()
        self.good = os.path.join(source, "data/models/tiny-llama")
        self.text = os.path.join(source, "data/texts/evaluation.txt")

    def new(self, name=""):
        self.n += 1
        path = os.path.join(self.folder, str(self.n))
        os.makedirs(path)
        return os.path.join(path, name) if name else path

    def model(self, *without):
        """A copy of a small model, by links, where some files are to be replaced."""
        path = self.new("model")
        os.makedirs(path)
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if name not in without:
                os.symlink(os.path.join(self.good, name), os.path.join(path, name))
        return path

    def add(self, kind, what, args, says, code=3):
        self.check(Row(kind, what, args, code, says))
        for name in set(os.listdir(self.folder)) - self.kept:
            shutil.rmtree(os.path.join(self.folder, name))

    def keep(self):
        """What is there now serves later rows too."""
        self.kept = set(os.listdir(self.folder))

    def run_args(self, model):
        return ["calibrate", "-m", model, "-f", self.text, "--tokens", "64", "-q", "-o", self.new("map.h5")]

    def tokenize_args(self, model, text=None):
        return ["tokenize", "-m", model, "-f", text or self.text, "--tokens", "16"]

    # Each of these adds the rows of one kind of input.

    def configs(self):
        good = json.load(open(os.path.join(self.good, "config.json")))

        def row(what, text, says):
            model = self.model("config.json")
            put(model + "/config.json", text)
            self.add("config.json", what, self.run_args(model), says)

        def changed(what, says, **fields):
            row(what, json.dumps({**good, **fields}), says)

        row("empty", "", "not valid JSON")
        row("not an object", "[1]", "expected a JSON object")
        row("1 MB and a byte", hole_text(1 << 20), "too large")
        row("64 levels and one", "[" * 65, "too deep")
        row("one million open brackets", "[" * (1 << 20), "too deep")
        row("a key twice", '{"model_type": "llama", "model_type": "llama"}', "duplicate JSON key")
        row("not UTF-8", b'{"model_type": "ll\xffama"}', "not valid JSON")
        row("a byte order mark", b"\xef\xbb\xbf{}", "byte order mark")
        row("a zero byte", b'{"model_type":\0 "llama"}', "zero byte")
        row("a number beyond double", '{"model_type": "llama", "rope_theta": 1e999}', "not valid JSON")
        row("NaN", '{"model_type": "llama", "rope_theta": NaN}', "not valid JSON")
        changed("1025 layers", "1 to 1024", num_hidden_layers=1025)
        changed("1025 heads", "1 to 1024", num_attention_heads=1025)
        changed("head dimension 514", "2 to 512", head_dim=514)
        changed("head dimension 2^62", "out of range", head_dim=1 << 62)
        changed("a size below 0", "out of range", hidden_size=-1)
        changed("a size as text", "expected an integer", hidden_size="256")
        changed("a vocabulary of 2^31", "out of range", vocab_size=1 << 31)
        for how, says in {**NO_FILES, "a link to nowhere": "a link to a file that is not there"}.items():
            model = self.model("config.json")
            no_regular_file(model + "/config.json", how)
            self.add("config.json", how, self.run_args(model),
                     says if how != "links in a circle" else "config.json")

    def weights(self):
        def row(what, data, says, large=False, code=3):
            if large and not self.large:
                return
            model = self.model("model.safetensors")
            put(model + "/model.safetensors", data)
            self.add("safetensors", what, self.run_args(model), says, code)

        one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        row("empty", b"", "not a safetensors file")
        row("7 bytes", b"1234567", "not a safetensors file")
        row("another format (zip)", b"PK\3\4" + bytes(1000), "header")
        row("header longer than the file", struct.pack("<Q", 1000) + b"{}", "past the file")
        row("header of 2^63 bytes", struct.pack("<Q", 1 << 63) + b"{}", "too long")
        row("header not JSON", safetensors("{x"), "not valid JSON")
        row("header not an object", safetensors("[]"), "does not begin with {")
        row("a tensor twice", safetensors('{"a":%s,"a":%s}' % (json.dumps(one), json.dumps(one)), bytes(4)),
            "duplicate JSON key")
        row("64 levels and one", safetensors('{"a":' + "[" * 64 + "]" * 64 + "}"), "too deep")
        row("shape of 2^64 elements", safetensors({"a": {**one, "dtype": "F64", "shape": [1 << 32, 1 << 32]}},
                                                  bytes(4)), "shape")
        row("shape beyond the bytes", safetensors({"a": {**one, "shape": [2]}}, bytes(4)), "dtype and shape say")
        row("a negative size", safetensors({"a": {**one, "shape": [-1]}}, bytes(4)), "expected integers")
        row("an unknown type", safetensors({"a": {**one, "dtype": "F31"}}, bytes(4)), "not a safetensors type")
        row("tensors that overlap", safetensors({"a": one, "b": {**one, "data_offsets": [2, 6]}}, bytes(6)), "inside")
        row("a hole", safetensors({"a": {**one, "data_offsets": [4, 8]}}, bytes(8)), "hole")
        row("bytes behind the last tensor", safetensors({"a": one}, bytes(5)), "behind the last")
        row("cut off", open(self.good + "/model.safetensors", "rb").read()[:-1], "past the file")
        data = bytearray(open(self.good + "/model.safetensors", "rb").read())
        length = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + length])
        name = "model.layers.1.self_attn.k_proj.weight"
        at = 8 + length + header[name]["data_offsets"][0]
        for what, bits in {"a NaN": b"\xc0\x7f", "an infinity": b"\x80\x7f"}.items():
            data[at:at + 2] = bits
            row(what + " among the weights", bytes(data), "k_proj", code=6)
        header[name]["dtype"] = "I16"
        row("weights as integers", safetensors(header, bytes(data[8 + length:])), "dtype I16 is not supported")
        for how, says in NO_FILES.items():
            model = self.model("model.safetensors")
            no_regular_file(model + "/model.safetensors", how)
            self.add("safetensors", how, self.run_args(model),
                     says if how != "links in a circle" else "model.safetensors")
        model = self.model("model.safetensors")
        path = hole(model + "/model.safetensors", 1 << 42, struct.pack("<Q", 100_000_001))
        self.add("safetensors", "header of 100 MB and a byte", self.run_args(model), "too long")
        row("100 MB of empty lists", lambda: [struct.pack("<Q", 100_000_000), '{"a":[', "[]," * 33_333_330, "[]]}"],
            "too many JSON values", True)
        row("100 MB of small tensors", lambda: [struct.pack("<Q", 100_000_000)] + small_tensors(100_000_000),
            "too many JSON values", True)
        self.huge_model()

    def huge_model(self):
        """Weights of 2^24 by 2^9 numbers in a hole: sizes that a config may have, and no machine."""
        model = self.model("config.json", "model.safetensors")
        good = json.load(open(os.path.join(self.good, "config.json")))
        put(model + "/config.json", json.dumps({**good, "hidden_size": 1 << 24, "num_hidden_layers": 1024}))
        put(model + "/model.safetensors", safetensors({"model.embed_tokens.weight": {
            "dtype": "F32", "shape": [1 << 24, 1 << 9], "data_offsets": [0, 1 << 35]}}))
        os.truncate(model + "/model.safetensors", os.path.getsize(model + "/model.safetensors") + (1 << 35))
        self.add("safetensors", "a tensor of 2^33 numbers that is not the config's", self.run_args(model), "shape")

    def indexes(self):
        def row(what, text, says, large=False, beside=None):
            if large and not self.large:
                return
            model = self.model("model.safetensors")
            put(model + "/model.safetensors.index.json", text)
            if beside:
                beside(model)
            self.add("index.json", what, self.run_args(model), says)

        for path in ("../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "", "..", "a\0b"):
            row("a shard " + json.dumps(path), json.dumps({"weight_map": {"x": path}}), "not a file name inside")
        row("a shard that is not there", json.dumps({"weight_map": {"x": "a.safetensors"}}), "no such file")
        row("a shard as a number", json.dumps({"weight_map": {"x": 1}}), "expected a file name")
        row("1025 shards", json.dumps({"weight_map": {str(i): f"{i}.safetensors" for i in range(1025)}}), "at most 1024")
        row("no tensors", '{"weight_map": {}}', "weight_map")
        row("64 MB and a byte", lambda: hole_text(64 << 20), "too large", True)
        row("64 MB of names", lambda: ['{"weight_map":{'] + [f'"{i}":"a",' for i in range(4_500_000)] + ['"x":"a"}}'],
            "too many JSON values", True)
        row("a shard that is a FIFO", json.dumps({"weight_map": {"x": "a"}}), "not a regular file",
            beside=lambda model: no_regular_file(model + "/a", "a FIFO"))

        def shards(model):
            for s in range(12):
                put(f"{model}/{s}.safetensors", safetensors("{" + ",".join(
                    f'"{s}-{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(50_000)) + "}"))

        row("twelve shards of 50,000 tensors", json.dumps({"weight_map": {
            f"{s}-0": f"{s}.safetensors" for s in range(12)}}), "524288 at most", True, shards)


def hole_text(n):
    """JSON of n + 1 bytes."""
    return "{" + " " * (n - 1) + "}"


def small_tensors(n):
    """A header's text of n bytes: empty tensors."""
    one = '"%07d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
    count = (n - 10) // len(one % 0)
    parts = ["{"] + [one % i for i in range(count)]
    parts.append('"z":1')
    return parts + [" " * (n - sum(map(len, parts)) - 1) + "}"]
