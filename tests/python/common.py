"""What the tests of lib/python share. Each file runs as

    python3 tests/python/test_NAME.py BINARY LIBRARY STEP_LOGITS [unittest's arguments]

where STEP_LOGITS is tests/tools/step_logits.cpp. It leaves with 77, as a skipped test, where Python lacks a module."""

import atexit
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY, LIBRARY, STEP_LOGITS = (os.path.abspath(argument) for argument in sys.argv[1:4])
os.environ["BLOCKGTQ_LIBRARY"] = LIBRARY
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", BLOCKGTQ_COLOR="never")
sys.path.insert(0, str(ROOT / "lib/python"))

_folder = tempfile.mkdtemp(prefix="blockgtq-python-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)


def need(*modules):
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            print(f"skipped: no {module} here: {error}")
            sys.exit(77)


def model(name):
    return str(ROOT / "data/models" / name)


def run(*arguments, program=BINARY):
    """Standard output of the binary, or of another program."""
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{program} {' '.join(map(str, arguments))}: {done.returncode}: {done.stderr}")
    return done.stdout


def temporary(name):
    return str(Path(_folder) / name)


def map_of(name, bits="3"):
    """The bit map of one of the small models, calibrated on a few tokens."""
    path = temporary(f"{name}-{bits}.h5")
    if not os.path.exists(path):
        run("calibrate", "-m", model(name), "-f", ROOT / "data/texts/calibration.txt", "--tokens", 512, "--bits", bits,
            "-o", path, "-q", "--device", "cpu")
    return path


class Case(unittest.TestCase):
    def refused(self, words, call, *arguments, **named):
        """The call raises blockgtq.Error, whose one line has these words."""
        import blockgtq

        with self.assertRaises(blockgtq.Error) as caught:
            call(*arguments, **named)
        text = str(caught.exception)
        self.assertIn(words, text)
        self.assertNotIn("\n", text)
        return caught.exception


def main():
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
