"""Bad files of our own, and lists that users bring."""
import json
import os
import subprocess

from inputs import NO_FILES, hole, hole_text, no_regular_file, put


def h5(m):
    good = m.new("map.h5")
    subprocess.run([m.binary, *m.run_args(m.good)[:-1], good], check=True, stdout=subprocess.DEVNULL)
    data = open(good, "rb").read()
    m.keep()

    def row(what, data, says):
        path = put(m.new("a.h5"), data)
        m.add("HDF5", what, ["export-bitmap", path, "--format", "json", "-o", m.new("map.json")], says)

    row("empty", b"", "not a complete HDF5 file")
    row("another format", b"PK\3\4" * 100, "not a complete HDF5 file")
    row("the magic alone", data[:8], "")
    row("magic and bytes of ones", data[:8] + b"\xff" * 4000, "")
    row("half of the file", data[:len(data) // 2], "")
    row("a byte missing", data[:-1], "")
    row("every 50th byte changed", bytes(b ^ 0x40 if i > 64 and i % 50 == 0 else b for i, b in enumerate(data)), "")
    path = hole(m.new("a.h5"), 1 << 40, b"no HDF5")
    m.add("HDF5", "a hole of 1 TiB", ["inspect", path], "not a complete HDF5 file")
    for how in NO_FILES:
        path = no_regular_file(m.new("a.h5"), how)
        m.add("HDF5", how, ["allocate", path, "--bits", "3", "-o", m.new("map.h5")], "a.h5")


def run_files(m):
    def resume(what, make, says, code):
        out = m.new("map.h5")
        make(out + ".resume")
        m.add("OUTPUT.resume", what, [*m.run_args(m.good)[:-1], out, "--resume", "must"], says, code)

    resume("empty", lambda p: put(p, ""), "not as it was written", 3)
    resume("another format", lambda p: put(p, "{}\n" + "0" * 64), "not a file of schema", 3)
    resume("a hole of 1 GiB", lambda p: hole(p, 1 << 30, b"{}\n"), "not a file of schema", 3)
    head = b'{"schema": "blockgtq.resume/1", "stages": []}\n'
    resume("bytes that no stage has", lambda p: put(p, head + bytes(1000)), "not as it was written", 3)
    resume("a wrong digest", lambda p: put(p, head + b"0" * 64), "not as it was written", 3)
    for how in NO_FILES:
        resume(how, lambda p: no_regular_file(p, how), ".resume", 3 if how == "links in a circle" else 4)

    task = put(m.new("task.jsonl"), '{"problem": "1+1", "answer": "2"}\n')
    m.keep()

    def samples(what, make, says, code=3, large=False):
        if large and not m.large:
            return
        path = make(m.new("answers/tiny-llama.jsonl"))
        m.add("samples", what, ["aime", "-m", m.good, "--data", task, "--answer-tokens", "1", "-q", "-o", os.path.dirname(path)], says,
              code)

    samples("another format", lambda p: put(p, "no JSON\n"), "not valid JSON")
    samples("of another run", lambda p: put(p, '{"schema": "blockgtq.samples/1"}\n'), "of another run")
    samples("text without a line end", lambda p: put(p, "x" * 1000), "not a file of samples")
    samples("a hole of 1 GiB", lambda p: hole(p, 1 << 30), "too large", 3, True)
    for how in NO_FILES:
        samples(how, lambda p: no_regular_file(p, how), "tiny-llama.jsonl", 4)


def lists(m):
    def task(command, what, data, says):
        folder = m.new()
        name = os.path.join(folder, "qasper.jsonl" if command == "longbench" else "task.jsonl")
        data(name) if callable(data) else put(name, data)
        given = folder if command == "longbench" else name
        m.add(command + " data", what, [command, "-m", m.good, "--data", given, "--answer-tokens", "1", "-q"], says)

    for command in ("aime", "longbench"):
        task(command, "empty", "", "no lines of JSON")
        task(command, "not an object", "[1]\n", "not a JSON object")
        task(command, "a field missing", "{}\n", "is missing")
        task(command, "not UTF-8", b'{"problem": "\xff"}\n', "not valid JSON")
        task(command, "one line of 17 MB", '{"problem": "' + "x" * (17 << 20) + '"}', "too long")
        task(command, "a hole of 1 GiB", lambda p: hole(p, 1 << 30), "too large")
        task(command, "a FIFO", lambda p: no_regular_file(p, "a FIFO"), "not a regular file")
    task("aime", "an id twice", '{"problem": "1", "answer": 1, "id": 1}\n' * 2, "comes twice")
    task("aime", "an answer of 1e300", '{"problem": "1", "answer": 1e300}\n', "whole number")
    task("longbench", "no answers", '{"_id": "a", "context": "", "input": "", "answers": [], "all_classes": null}\n',
         "is empty")

    spec = json.load(open(os.path.join(m.source, "data/panel.json")))

    def panel(what, text, says):
        m.add("panel.json", what, ["panel", put(m.new("panel.json"), text), "-o", m.new("panel"), "-q"], says)

    panel("empty", "", "not valid JSON")
    panel("another schema", '{"schema": "x"}', "blockgtq.panel-spec/1 wanted")
    panel("a list in place of an object", "[]", "is missing")
    panel("1 MB and a byte", hole_text(1 << 20), "too large")
    panel("chunk 1e300", json.dumps({**spec, "chunk": 1e300}), "no whole number")
    panel("chunk true", json.dumps({**spec, "chunk": True}), "no whole number")
    panel("a model's name that leaves the folder", json.dumps({**spec, "models": [{"name": "../x", "path": "x"}]}),
          "cannot name a file")
    panel("a path longer than names may be", json.dumps({**spec, "bits": [], "models": [{"name": "x", "path":
          "y" * 5000}]}), "none given")

    def prompts(what, data, says):
        m.add("prompts", what, ["generate", "-m", m.good, "--prompts", put(m.new("prompts.jsonl"), data), "-n", "1",
                                "-q"], says)

    prompts("empty", "", "no prompts")
    prompts("text and ids", '{"prompt": "a", "ids": [1]}\n', "one of")
    prompts("an id of 2^40", '{"ids": [1099511627776]}\n', "whole numbers")
    prompts("an unknown key", '{"prompt": "a", "x": 1}\n', "none of")
    prompts("one line of 17 MB", '{"prompt": "' + "x" * (17 << 20) + '"}\n', "too long")

    def evaluation(what, data, says, large=False):
        if m.large or not large:
            path = put(m.new("eval.json"), data)
            m.add("eval-logits JSON", what, ["correlate", path, "--with", path], says)

    evaluation("another schema", '{"schema": "x"}', "wanted")
    evaluation("a field missing", '{"schema": "blockgtq.eval-logits/1"}', "not a document of ours")
    evaluation("a number in place of a list", '{"schema": "blockgtq.panel/1", "models": 3}', "not a document of ours")
    evaluation("64 MB and a byte", lambda: hole_text(64 << 20), "too large", True)

    def toml(what, data, says, large=False):
        if m.large or not large:
            path = data if isinstance(data, str) and os.path.lexists(data) else put(m.new("options.toml"), data)
            m.add("--config", what, ["--config", path, "inspect", m.good], says, 2)

    toml("not TOML", "a b\n", "not TOML")
    toml("an unknown key", "a = 1\n", "unknown key")
    toml("a key twice", "threads = 1\nthreads = 2\n", "not TOML")
    toml("64 brackets and one", "a = " + "[" * 65, "brackets")
    toml("64 KB and a byte", "# " + "x" * ((64 << 10) - 1), "too large")
    toml("bytes", bytes(range(256)), "not TOML")
    toml("64 KB of keys", "".join(f"a{i} = 1\n" for i in range(6_000)), "unknown key")
    toml("64 KB of a list's numbers", "[inspect]\ntokens = [\n" + "1,\n" * 21_000 + "]\n", "tokens")
    toml("a device that never ends", no_regular_file(m.new("a.toml"), "a device"), "too large")
    toml("a folder", m.new(), "")


def cache(m):
    """Models by name: what a cache of the Hugging Face library may hold."""
    for what, make, says in (("refs/main is a FIFO", lambda p: no_regular_file(p, "a FIFO"), "not a regular file"),
                             ("refs/main is a device", lambda p: no_regular_file(p, "a device"), "not a regular file"),
                             ("refs/main is 1 TiB", lambda p: hole(p, 1 << 40), "too large"),
                             ("refs/main leads elsewhere", lambda p: put(p, "../../../etc"), "is not a revision"),
                             ("refs/main in a circle", lambda p: no_regular_file(p, "links in a circle"), "Too many")):
        hub = m.new("hub")
        os.makedirs(hub + "/models--org--name/snapshots/abc")
        make(hub + "/models--org--name/refs/main")
        m.add("Hugging Face cache", what, ["inspect", "org/name", "@HF_HUB_CACHE=" + hub], says)
