"""The runs that are disturbed: every command, small. What it reads is made once, by make_inputs()."""
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
MODEL = TREE / "data/models/tiny-llama"
TEXTS = [TREE / "data/texts/calibration.txt", TREE / "data/texts/evaluation.txt"]
CACHES = "--k-method tq-mse --v-method tq-mse --pairs K2V2"
# What differs from run to run: times in JSON, and in what is printed.
SECONDS = rb'"(?:prompt_)?seconds": [0-9.e+-]+'
NUMBERS = rb" *[0-9][0-9.e+-]*|\xe2\x94\x80+"


@dataclass
class Run:
    """A command line, its words separated by spaces: {inputs} is the folder of make_inputs(), {n} a number of tokens.
    It runs in a folder of its own."""
    name: str
    line: str
    outputs: list = field(default_factory=list)  # files that are there whole or not at all
    kept: list = field(default_factory=list)  # patterns of what a run that ended early may leave for the next one
    folders: list = field(default_factory=list)  # that it may leave, too
    n: tuple = (64, 300)  # tokens: where calls fail, and where it is killed
    times: bytes = None  # a pattern of what differs from run to run
    force: bool = True  # whether it has --force
    thin: float = 1  # share of the sample of calls: it takes long

    @property
    def command(self):
        return " ".join(w for w in self.line.split()[:2] if re.fullmatch("[a-z-]+", w) and not w.startswith("-"))

    def args(self, inputs, long=False):
        text = self.line.replace("{inputs}", str(inputs)).replace("{n}", str(self.n[long]))
        for i, path in enumerate(TEXTS):
            text = text.replace("{text%d}" % i, str(path))
        return text.replace("{model}", str(MODEL)).replace("{tree}", str(TREE)).split()

    def keeps(self, path):
        return any(re.fullmatch(pattern, path) for pattern in self.kept)

    def comparable(self, data):
        """Bytes without what differs from run to run."""
        return re.sub(self.times, b"", data) if self.times else data


TABLES = ["e.json", "e.csv", "e.md"]
TABLE_OPTIONS = "--json e.json --csv e.csv --md e.md"
SAMPLES = ["a/tiny-llama.jsonl"]

RUNS = [
    Run("inspect, a model", "inspect {model}", times=rb"\ntime .*"),
    Run("inspect, a map", "inspect {inputs}/map.h5"),
    Run("inspect, statistics", "inspect {inputs}/stats.h5"),
    Run("tokenize", "tokenize -m {model} -f {text0} --tokens {n}"),
    Run("dump", "dump -m {model} -f {text0} --tokens {n} -o acts.h5", ["acts.h5"], [r"acts\.h5\.resume"]),
    Run("energy", "energy -m {model} -f {text0} --tokens {n} --checkpoint-seconds 0 -o stats.h5", ["stats.h5"],
        [r"stats\.h5\.resume"]),
    Run("energy, of a dump", "energy {inputs}/acts.h5 --checkpoint-seconds 0 -o stats.h5", ["stats.h5"],
        [r"stats\.h5\.resume"]),
    Run("merge", "merge {inputs}/part1.h5 {inputs}/part2.h5 -o stats.h5", ["stats.h5"]),
    Run("allocate", "allocate {inputs}/stats.h5 --bits 2,3 --resamples 2 -o map.h5 --json e.json", ["map.h5", "e.json"]),
    Run("calibrate", "calibrate -m {model} -f {text0} --tokens {n} --checkpoint-seconds 0 --resamples 2 -o map.h5 --json e.json",
        ["map.h5", "e.json"], [r"map\.h5\.resume"]),
    Run("calibrate --choose",
        "calibrate -m {model} -f {text0} --tokens {n} --chunk 32 --choose --bits 2 --choose-chunk 32 --choose-tokens 64 "
        "--checkpoint-seconds 0 -o map.h5", ["map.h5"], [r"map\.h5\.resume"], n=(64, 150), thin=0.2),
    Run("quantize", "quantize {inputs}/acts.h5 --map {inputs}/map.h5 --bits 2 -o packed.h5 --json e.json",
        ["packed.h5", "e.json"]),
    Run("eval-logits", "eval-logits -m {model} -f {text1} --tokens {n} --map {inputs}/map.h5 " + TABLE_OPTIONS, TABLES,
        [r"e\.json\.resume"]),
    Run("eval-logits, of a dump", "eval-logits --activations {inputs}/acts.h5 --map {inputs}/map.h5 " + TABLE_OPTIONS,
        TABLES, [r"e\.json\.resume"]),
    *[Run("export-bitmap " + form, f"export-bitmap {{inputs}}/map.h5 --bits 2 --format {form} -o m.{form}", ["m." + form])
      for form in ("json", "csv", "npy", "safetensors", "png", "svg")],
    Run("export-bitmap, printed", "export-bitmap {inputs}/map.h5 --bits 2 --format json -o -", force=False),
    Run("export-bitmap --fold", "export-bitmap {inputs}/map.h5 --fold {model} -o m",
        ["m/model.safetensors", "m/tokenizer.json", "m/config.json", "m/generation_config.json"]),
    Run("panel", "panel {inputs}/panel.json -o p", ["p/panel.json", "p/panel.csv", "p/panel.md", "p/index.html"],
        [r"p/models/[^./]+\.(json|map\.h5)"], ["p", "p/models"], force=False, thin=0.5),
    Run("perplexity", "perplexity -m {model} -f {text1} --tokens {n} --chunk 32 --map {inputs}/map.h5 " + CACHES +
        " --checkpoint-seconds 0 " + TABLE_OPTIONS + " --chart e.svg", TABLES + ["e.svg"], [r"e\.json\.resume"]),
    Run("niah --score forced", "niah -m {model} -f {text1} --score forced --context {n} --questions 2 --map {inputs}/map.h5 " +
        CACHES + " " + TABLE_OPTIONS, TABLES, n=(100, 200)),
    Run("niah --task", "niah -m {model} --task single-1 --context {n} --trials 2 --depths 0,100 --answer-tokens 3 --map "
        "{inputs}/map.h5 " + CACHES + " -o a " + TABLE_OPTIONS + " --chart e.svg", TABLES + ["e.svg"], SAMPLES, ["a"],
        n=(256, 300)),
    Run("longbench", "longbench -m {model} --data {tree}/tests/cli/tasks/longbench --task trec --limit 1 --answer-tokens 3 " +
        CACHES + " --map {inputs}/map.h5 -o a " + TABLE_OPTIONS, TABLES, SAMPLES, ["a"]),
    Run("aime", "aime -m {model} --data {tree}/tests/cli/tasks/aime.jsonl --limit 2 --answer-tokens 3 --samples 1 " + CACHES +
        " --map {inputs}/map.h5 -o a " + TABLE_OPTIONS, TABLES, SAMPLES, ["a"]),
    Run("generate", "generate -m {model} -p Hello -n 4 --json e.json", ["e.json"], times=SECONDS),
    Run("generate, simulated cache", "generate -m {model} -p Hello -n 4 --map {inputs}/map.h5 " + CACHES + " --json e.json",
        ["e.json"], times=SECONDS),
    Run("generate, pages", "generate -m {model} -p Hello -n 4 --kv {inputs}/map.h5 --json e.json", ["e.json"], times=SECONDS),
    Run("generate, many texts", "generate -m {model} --prompts {inputs}/prompts.jsonl -o texts.jsonl", ["texts.jsonl"]),
    Run("correlate", "correlate {inputs}/eval.json --with {inputs}/quality.json " + TABLE_OPTIONS, TABLES),
    Run("bench diagnostics", "bench diagnostics --layers 1 --heads 2 --kv-heads 1 --head-dim 64 --tokens 64 --chunk 64 "
        "--repeat 1 --json e.json", ["e.json"], times=NUMBERS, force=False),
    Run("doctor", "doctor"),
]


def make_inputs(binary, folder):
    """What the runs read, in a new folder."""
    folder.mkdir()

    def blockgtq(line):
        words = line.replace("MODEL", str(MODEL)).replace("TEXT0", str(TEXTS[0])).replace("TEXT1", str(TEXTS[1])).split()
        subprocess.run([binary, *words, "-q"], cwd=folder, check=True, stdout=subprocess.DEVNULL)

    blockgtq("dump -m MODEL -f TEXT0 --tokens 64 --chunk 32 -o acts.h5")
    for part in (1, 2):
        blockgtq(f"energy -m MODEL -f TEXT0 --tokens 64 --chunk 32 --part {part}/2 -o part{part}.h5")
    blockgtq("merge part1.h5 part2.h5 -o stats.h5")
    blockgtq("calibrate -m MODEL -f TEXT0 --tokens 128 --bits 2,3 -o map.h5")
    methods = "tq-mse,block-gtq"
    blockgtq(f"eval-logits -m MODEL -f TEXT1 --tokens 64 --map map.h5 --methods {methods} --json eval.json")
    blockgtq(f"perplexity -m MODEL -f TEXT1 --tokens 64 --chunk 32 --map map.h5 --k-method {methods} --pairs K2,K3 "
             "--json quality.json")
    prompts = [{"id": i, "prompt": text, "n": 3} for i, text in enumerate(("One", "Two words", "Three of them"))]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    spec = {"schema": "blockgtq.panel-spec/1", "calibration": {"text": str(TEXTS[0]), "tokens": 64},
            "evaluation": {"text": str(TEXTS[1]), "tokens": 64}, "chunk": 32, "bits": [3], "methods": ["tq-mse"],
            "models": [{"name": name, "path": str(MODEL.parent / name)} for name in ("tiny-llama", "tiny-mistral")]}
    (folder / "panel.json").write_text(json.dumps(spec))
    return folder
