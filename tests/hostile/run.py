#!/usr/bin/env python3
"""Every class of bad input, for every kind of file: exit code, message, time and memory.

    tests/hostile/run.py build/blockgtq [--large] [--table] [KIND ...]

A row fails where the exit code or the message is not as it should be, where there is not one error line, where a file
is left behind, or where it takes 10 s (on a busy machine: of processors) or 1 GB. --large runs the rows as well whose files have tens of megabytes;
--table prints all rows as Markdown (reports/reliability/readers.md).
"""
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import files
import tokens
from inputs import Maker

MOST_SECONDS, MOST_BYTES = 10, 1_000_000_000
KINDS = {"configs": Maker.configs, "weights": Maker.weights, "indexes": Maker.indexes, "tokenizers": tokens.tokenizers,
         "ggufs": tokens.ggufs, "texts": tokens.texts, "h5": files.h5, "run_files": files.run_files,
         "lists": files.lists, "cache": files.cache}


def run(binary, args):
    """Exit code (128 + signal where it was killed), stderr, seconds, seconds of processors, peak bytes."""
    environment = dict(os.environ, OMP_NUM_THREADS="2", NO_COLOR="1")
    for setting in (a[1:] for a in args if a.startswith("@")):
        name, value = setting.split("=", 1)
        environment[name] = value
    args = [a for a in args if not a.startswith("@")]
    with tempfile.TemporaryFile() as err:
        begin = time.monotonic()
        child = os.posix_spawn(binary, [binary, *args], environment, file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, err.fileno(), 2)])
        timer = threading.Timer(10 * MOST_SECONDS, os.kill, (child, signal.SIGKILL))
        timer.start()
        _, status, usage = os.wait4(child, 0)
        timer.cancel()
        seconds = time.monotonic() - begin
        err.seek(0)
        text = err.read().decode(errors="replace")
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    return code, text, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def entries(folder):
    return {os.path.join(at, name) for at, folders, names in os.walk(folder) for name in folders + names}


class Checker:
    """Runs a row's command, and says what is not as it should be."""

    def __init__(self, binary, source, folder, table):
        self.binary, self.source, self.folder, self.table = binary, source, folder, table
        self.n = self.failed = 0
        # A process of its own, begun while this one is small: what a command takes counts what its parent has.
        self.process = multiprocessing.get_context("fork").Pool(1)
        if table:
            print("| input | what is wrong | exit | message | seconds | of processors | MB |\n|---|---|---:|---|---:|---:|---:|")

    def __call__(self, row):
        before = entries(self.folder)
        code, text, seconds, busy, peak = self.process.apply(run, (self.binary, row.args))
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        left = entries(self.folder) - before if code else []
        wrong = [what for what, bad in (
            (f"exit code {code}, not {row.code}: {text[:300]}", code != row.code),
            (f"{len(errors)} error lines", len(errors) != (row.code != 0)),
            (f"no \"{row.says}\" in: {text[:300]}", row.says not in text),
            (f"left behind: {', '.join(left)}", left),
            (f"{seconds:.1f} s, {busy:.1f} s of processors", min(seconds, busy) >= MOST_SECONDS),
            (f"{peak / 1e6:.0f} MB", peak >= MOST_BYTES)) if bad]
        self.n += 1
        self.failed += bool(wrong)
        if wrong:
            print(f"{row.kind}: {row.what}: {'; '.join(wrong)}", file=sys.stderr)
        if self.table:
            shown = (errors or [""])[0].replace(self.folder + "/", "").replace(self.source + "/", "")
            shown = shown if len(shown) <= 160 else shown[:110] + " ... " + shown[-40:]
            shown = shown.replace("|", "\\|").replace("<", "&lt;")
            print(f"| {row.kind} | {row.what} | {code} | {shown} | {seconds:.2f} | {busy:.2f} | {peak / 1e6:.0f} |", flush=True)


def main():
    binary, *options = sys.argv[1:]
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    kinds = [o for o in options if not o.startswith("--")] or list(KINDS)
    with tempfile.TemporaryDirectory(prefix="blockgtq-hostile-") as folder:
        check = Checker(os.path.abspath(binary), source, folder, "--table" in options)
        maker = Maker(source, folder, check.binary, "--large" in options, check)
        for kind in kinds:
            KINDS[kind](maker)
    print(f"{check.n} bad inputs, {check.failed} not handled as they should be", file=sys.stderr)
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
