#!/usr/bin/env python3
"""Disturbs every command and checks what is left: ./run soak, or tests/faults/soak.py BUILD [PART ...] [--only WORDS].

calls    the N-th call of every kind fails, for every N (of memory a sample): the run succeeds with the same bytes, or
         ends with one error line and the documented code; outputs are as before, nothing is left behind
cuts     SIGKILL in place of the N-th call that changes files; the next run leaves the same bytes
kills    SIGKILL at random moments; the next run leaves the same bytes
signals  SIGTERM, SIGINT and SIGUSR1 at random moments
disk     a file system of too few bytes or files
targets  outputs that cannot be written, or must not be
writers  two runs at once write the same outputs
"""
import argparse
import collections
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import faulty  # noqa: E402
from faulty import INPUT, INTERRUPTED, MEMORY, OLD, OUTPUT, STOPPED, Clean, Ended, Stage  # noqa: E402
from runs import RUNS, make_inputs  # noqa: E402

SEED = 21
# How calls fail.
HOWS = {
    "open": [errno.EACCES, errno.EMFILE], "read": [errno.EIO, errno.EINTR, "short"],
    "write": [errno.ENOSPC, f"{errno.ENOSPC}+", errno.EINTR, "short"], "print": [errno.ENOSPC], "sync": [errno.EIO],
    "rename": [errno.EACCES, errno.EINVAL], "link": [errno.EPERM], "unlink": [errno.EACCES],
    "folder": [errno.ENOSPC], "close": [errno.EIO], "stat": [errno.EIO], "size": [errno.EIO], "lock": [errno.ENOLCK],
    "map": [errno.ENOMEM], "memory": [errno.ENOMEM, f"{errno.ENOMEM}+"], "block": [errno.ENOMEM, f"{errno.ENOMEM}+"],
    "thread": [f"{errno.EAGAIN}+"], "process": [errno.EAGAIN],
}
HARMLESS = (errno.EINTR, "short")  # the call is to be made again, or its rest
CUTS = ("open", "write", "sync", "rename", "link", "unlink", "folder", "close", "size")
FIRST, SPREAD = 200, 200  # calls of a kind of which there are many, four times as many of others
MANY = ("open", "read", "stat", "map", "memory", "block")
INSIDE = ("read", "map", "memory", "block", "thread", "process", "print")  # nothing that an older file makes different


class Tally:
    """Cases by command and something else, and the complaints."""

    def __init__(self):
        self.cells = collections.defaultdict(collections.Counter)
        self.complaints = []

    def add(self, row, column, outcome, complaints, what):
        self.cells[row, column][outcome] += 1
        if complaints:
            self.cells[row, column]["wrong"] += 1
            line = f"{row}: {what}: {'; '.join(complaints)}"
            self.complaints.append(line)
            print("WRONG", line, flush=True)

    def table(self):
        """Markdown: of every row and column how many cases ended how."""
        rows = list(dict.fromkeys(row for row, _ in self.cells))
        columns = list(dict.fromkeys(column for _, column in self.cells))
        text = "| command | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns) + "\n"
        for row in rows:
            cells = [", ".join(f"{n} {outcome}" for outcome, n in sorted(self.cells[row, c].items())) for c in columns]
            text += f"| {row} | " + " | ".join(cells) + " |\n"
        total = collections.Counter()
        for counts in self.cells.values():
            total.update(counts)
        n = sum(k for outcome, k in total.items() if outcome != "wrong")
        return text + f"\n{n} cases: " + ", ".join(f"{k} {outcome}" for outcome, k in sorted(total.items())) + "\n"


class Soak:
    def __init__(self, options, scratch):
        self.o = options
        self.random = random.Random(SEED)
        self.scratch = scratch
        build = Path(options.build).resolve()
        self.binary = build / "blockgtq"
        self.inputs = make_inputs(self.binary, scratch / "inputs")
        self.stage = Stage(self.binary, build / "tests/libfaults.so", self.inputs, scratch)
        i, n = map(int, options.share.split("/"))
        self.runs = [run for run in RUNS if all(word in run.name for word in options.only)][i - 1::n]
        self.cleans = {}
        self.tally = Tally()  # of the part under way

    def clean(self, run, long=False, threads=True):
        """The undisturbed run, made once. It has one thread where calls are counted."""
        key = run.name, long, threads
        if key not in self.cleans:
            self.stage.clear()
            begin = time.monotonic()
            ended = self.stage.run(self.args(run, long, threads))
            if ended.code != 0:
                sys.exit(f"{run.name}: {ended.code}: {ended.err}")
            self.cleans[key] = Clean(ended.out, self.stage.files(), ended.calls, time.monotonic() - begin)
        return self.cleans[key]

    def args(self, run, long=False, threads=True, quiet=True):
        return run.args(self.inputs, long) + (["-q"] if quiet else ["--progress", "none"]) + ([] if threads else ["-t", "1"])

    # calls

    def calls(self):
        tally = self.tally
        for run in self.runs:
            begin, n = time.monotonic(), 0
            clean = self.clean(run, threads=False)
            args = self.args(run, threads=False)
            old = {name: OLD for name in run.outputs}
            self.stage.clear(old)
            replacing = self.stage.run(args + ["--force"]).calls if run.force else {}
            for kind, hows in HOWS.items():
                for how in hows:
                    for at in self.places(run, kind, clean.calls[kind], hows[0] != how):
                        self.call_fails(tally, run, clean, args, {}, f"{kind},{at},{how}")
                        n += 1
                if old and run.force and kind not in INSIDE:
                    for at in self.places(run, kind, replacing[kind], kind == "write"):
                        self.call_fails(tally, run, clean, args + ["--force"], old, f"{kind},{at},{hows[0]}")
                        n += 1
            print(f"calls: {run.name}: {n} cases in {time.monotonic() - begin:.0f} s", flush=True)

    def places(self, run, kind, n, few=False):
        """Which of n calls; all of them where there are not many more than FIRST, and else these and a sample."""
        share = self.o.scale * run.thin * (0.25 if few else 1) * (1 if kind in MANY else 4)
        first, spread = max(1, round(FIRST * share)), max(1, round(SPREAD * share))
        if n <= first + spread:
            return range(1, n + 1)
        return [*range(1, first + 1), *sorted(self.random.sample(range(first + 1, n + 1), spread))]

    def call_fails(self, tally, run, clean, args, before, faults):
        kind, _, how = faults.split(",")
        self.stage.clear(before)
        before = self.stage.files()
        ended = self.stage.run(args, faults)
        if ended.failed == 0:
            return  # the run made fewer calls than another one
        after = self.stage.files()
        complaints = []
        if ended.code is None:
            outcome, complaints = "hung", ["hung"]
        elif ended.code < 0 and "libhdf5" in ended.crashed:  # which makes nothing of its own lack of memory
            outcome = "crashed in libhdf5"
        elif ended.code < 0:
            outcome, complaints = "crashed", [f"signal {-ended.code} {ended.crashed}"]
        elif ended.code == 0:
            outcome = "succeeded"
            left = {name: data for name, data in after.items()
                    if name in clean.files or kind != "unlink" or not (faulty.is_temporary(name) or run.keeps(name))}
            complaints = faulty.same_files(run, left, clean.files)
            # doctor prints what it finds there; inspect prints why something is refused
            told = ended.path.startswith(("/proc", "/sys")) or b"refused: " in ended.out
            if not told and run.comparable(ended.out) != run.comparable(clean.out):
                complaints.append("prints something else")
        else:
            outcome = f"code {ended.code}"
            if ended.code not in self.codes(run, ended, kind, how):
                complaints.append(f"code {ended.code}")
            complaints += faulty.check_words(ended)
            complaints += faulty.check_left(run, before, after, clean, self.whole_allowed(run, ended, kind),
                                            kind == "unlink" or how.endswith("+"), faulty.missing_models(ended))
            if not complaints and run.kept and kind != "print":  # there the outputs are whole
                complaints = self.again(run, clean, args)
        tally.add(run.name, kind, outcome, complaints,
                  f"{faults} {ended.call}({ended.path}): code {ended.code}: {ended.err.strip()[:300]}")

    def again(self, run, clean, args):
        """The next run goes on with what a failed one kept."""
        ended = self.stage.run(args)
        if ended.code != 0:
            return [f"run again: code {ended.code}: {ended.err.strip()}"]
        return [f"run again: {c}" for c in faulty.same_files(run, self.stage.files(), clean.files)]

    def codes(self, run, ended, kind, how):
        """Those that tell of this failure."""
        if how in map(str, HARMLESS):
            return []
        if kind in ("memory", "block", "thread", "process"):
            # HDF5 first reads a file in a child, which fails; and it may have no memory for saying why it failed.
            of_hdf5 = "damaged: " in ended.err or "unknown failure of HDF5" in ended.err
            return [MEMORY] + [INPUT, OUTPUT] * of_hdf5
        if kind == "print":
            return [OUTPUT]
        codes = [1] if "models failed" in ended.err else []
        path = os.path.join(self.stage.folder, ended.path)
        if ended.path.startswith(("/proc", "/sys", "/dev/null", "pipe:")):
            return codes + [INPUT] * ended.path.startswith("pipe:")  # of the child that tries a file of HDF5
        if path.startswith(str(self.stage.folder)):
            return codes + ([INPUT, OUTPUT] if run.kept else [OUTPUT])
        return codes + [INPUT]

    def whole_allowed(self, run, ended, kind):
        return kind == "print" or "left in place" in ended.err or "models failed" in ended.err

    # cuts and kills

    def cuts(self):
        tally = self.tally
        for run in self.writing():
            clean = self.clean(run, threads=False)
            args = self.args(run, threads=False, quiet=False)
            for kind in CUTS:
                for at in range(1, clean.calls[kind] + 3):
                    for before, more in [({}, [])] + ([({name: OLD for name in run.outputs}, ["--force"])] if run.force else []):
                        self.stage.clear(before)
                        ended = self.stage.run(args + more, f"{kind},{at},kill")
                        if ended.failed:
                            outcome, complaints = self.resume(run, clean, args, more, before)
                            tally.add(run.name, kind, outcome, complaints, f"{kind},{at},kill {' '.join(more)}")
            print(f"cuts: {run.name}", flush=True)

    def kills(self):
        """As many as --kills says, the commands in turn; every fourth run is killed twice."""
        tally = self.tally
        runs = self.writing()
        killed = 0
        while killed < self.o.kills:
            run = runs[killed % len(runs)]
            clean = self.clean(run, long=True)
            args = self.args(run, long=True, quiet=False)
            self.stage.clear()
            for _ in range(2 if self.random.random() < 0.25 else 1):
                process = self.stage.start(args)
                time.sleep(self.random.uniform(0, 0.95 * clean.seconds))
                process.kill()
                code, _, _ = self.stage.finish(process)
            if code != -signal.SIGKILL:
                continue  # it had ended
            killed += 1
            outcome, complaints = self.resume(run, clean, args, [], {})
            tally.add(run.name, "killed", outcome, complaints, f"kill {killed}")

    def resume(self, run, clean, args, more, before):
        """What lies there behind a kill, and what the next run makes of it."""
        left = self.stage.files()
        complaints = []
        for name in run.outputs:
            whole = name in left and run.comparable(left[name]) == run.comparable(clean.files[name])
            if left.get(name) != before.get(name) and not whole:
                complaints.append(f"{name}: damaged")
        code, _, err = self.stage.finish(self.stage.start(args + more))
        outcome = "went on" if "goes on from here" in err else "same bytes"
        if code == OUTPUT and ("file exists" in err or "folder exists" in err):  # it was killed among its last calls
            code, _, err = self.stage.finish(self.stage.start(args + ["--force"]))
            outcome = "same bytes with --force"
        if code != 0:
            complaints.append(f"run again: code {code}: {err.strip()[:300]}")
        return outcome, complaints + faulty.same_files(run, self.stage.files(), clean.files)

    def writing(self):
        return [run for run in self.runs if run.outputs]

    # signals

    def signals(self):
        tally = self.tally
        for run in self.runs:
            clean = self.clean(run, long=True)
            args = self.args(run, long=True)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                for _ in range(self.o.signals):
                    self.stage.clear()
                    process = self.stage.start(args)
                    time.sleep(self.random.uniform(0, clean.seconds))
                    process.send_signal(number)
                    code, out, err = self.stage.finish(process)
                    after = self.stage.files()
                    complaints = []
                    if code == 0:
                        outcome = "had ended"
                        complaints = faulty.same_files(run, after, clean.files)
                    elif code == -number and not after:
                        outcome = "before main()"
                    else:
                        outcome = f"code {code}"
                        ended = Ended(code, out, err, {}, 0, "", "")
                        if code != (INTERRUPTED if number == signal.SIGINT else STOPPED):
                            complaints.append(outcome)
                        complaints += faulty.check_words(ended)
                        complaints += faulty.check_left(run, {}, after, clean, False, False)
                        if not complaints:
                            _, complaints = self.resume(run, clean, args, [], {})
                    tally.add(run.name, number.name, outcome, complaints, f"{number.name}: {err.strip()[:300]}")

    # disk

    def disk(self):
        """A file system in memory, too small in steps; the run's folder is mounted there."""
        tally = self.tally
        for run in self.writing():
            clean = self.clean(run)
            args = self.args(run)
            pages = sum(-(-len(data) // 4096) + 1 for data in clean.files.values() if data is not None)
            nodes = len(clean.files) + 4
            steps = sorted({max(1, round(i * (pages + 2) / self.o.disks)) for i in range(1, self.o.disks + 1)})
            cases = [("bytes", f"size={n * 4096}") for n in steps] + [("files", f"nr_inodes={n}") for n in range(2, nodes + 2)]
            for column, size in cases:
                self.stage.clear()
                mounted = self.stage.folder
                subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", mounted], check=True)
                try:
                    code, out, err = self.stage.finish(self.stage.start(args))
                    complaints = []
                    after = self.stage.files()
                    if code == 0:
                        outcome = "had room"
                        complaints = faulty.same_files(run, after, clean.files)
                    else:
                        outcome = f"code {code}"
                        if code != OUTPUT:
                            complaints.append(outcome)
                        complaints += faulty.check_words(Ended(code, out, err, {}, 0, "", ""))
                        complaints += faulty.check_left(run, {}, after, clean, False, False)
                        if not complaints:  # room is made
                            subprocess.run(["mount", "-o", "remount,size=100M,nr_inodes=1000", mounted], check=True)
                            complaints = self.again(run, clean, args)
                finally:
                    subprocess.run(["umount", mounted], check=True)
                tally.add(run.name, column, outcome, complaints, f"{size}: {err.strip()[:300]}")

    # targets

    def targets(self):
        """Outputs that the command line names, in places that cannot be written, and all outputs where something lies."""
        tally = self.tally
        for run in self.writing():
            words = self.args(run)
            for name in [words[i + 1] for i, word in enumerate(words) if word in ("-o", "--json", "--csv", "--md", "--chart")]:
                for kind in ("no folder", "below a file", "long name", "read-only folder", "read-only disk", "device"):
                    if kind != "no folder" or name not in run.folders:  # that is made
                        self.elsewhere(tally, run, words, name, kind)
            for name in run.outputs + run.folders + ["a/tiny-llama.jsonl"] * ("a" in run.folders):
                for kind in ("pipe", "socket", "folder", "link to nothing", "file", "file, --force", "link to a file, --force"):
                    self.occupied(tally, run, words, name, kind)

    def elsewhere(self, tally, run, words, name, kind):
        self.stage.clear({"plain": b"a file"})
        folder, target, more = self.stage.folder, {
            "no folder": "none/" + name, "below a file": "plain/" + name, "long name": 300 * "x", "device": "/dev/full",
            "read-only folder": "closed/" + name, "read-only disk": "disk/" + name}[kind], {}
        if kind == "read-only folder":
            (folder / "closed").mkdir(mode=0o555)
            more = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
        if kind == "read-only disk":
            (folder / "disk").mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder / "disk"], check=True)
        try:
            before = self.stage.files()
            folder.chmod(0o777)
            args = [target if word == name else word for word in words]
            code, out, err = self.stage.finish(self.stage.start(args, **more))
            self.refused(tally, run, kind, name, code, err, before)
        finally:
            if kind == "read-only disk":
                subprocess.run(["umount", folder / "disk"], check=True)

    def refused(self, tally, run, kind, name, code, err, before):
        allowed = [OUTPUT, INPUT] if name.endswith(".jsonl") else [OUTPUT]  # a file of other lines is an input, too
        complaints = [] if code in allowed else [f"code {code}"]
        complaints += faulty.check_words(Ended(code, b"", err, {}, 0, "", ""))
        if {at: data for at, data in self.stage.files().items() if at not in run.folders} != before:
            complaints.append("the folder is not as it was")
        tally.add(run.name, kind, f"code {code}", complaints, f"{name}: {err.strip()[:300]}")

    def occupied(self, tally, run, words, name, kind):
        self.stage.clear({"plain": b"a file"})
        at = self.stage.folder / name
        at.parent.mkdir(parents=True, exist_ok=True)
        if kind == "pipe":
            os.mkfifo(at)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as unix:
                unix.bind(str(at))
        elif kind == "folder":
            if name in run.folders:
                return
            at.mkdir()
        elif kind == "link to nothing":
            at.symlink_to("nowhere")
        elif kind.startswith("link"):
            at.symlink_to(self.stage.folder / "plain")
        else:
            at.write_bytes(OLD)
        before = {at: data for at, data in self.stage.files().items() if at not in run.folders}
        force = "--force" in kind
        if force and name in run.folders:
            return
        if (force or kind in ("file", "link to nothing")) and not run.force:
            return  # it is replaced
        if name.endswith(".jsonl") and (force or kind == "link to nothing"):
            return  # it is gone on with, and begun where the link points
        code, out, err = self.stage.finish(self.stage.start(words + ["--force"] * force))
        if force:
            complaints = [] if code == 0 else [f"code {code}: {err}"]
            complaints += faulty.same_files(run, self.stage.files(), dict(self.clean(run).files, plain=b"a file"))
            tally.add(run.name, kind, "replaced", complaints, name)
        else:
            self.refused(tally, run, kind, name, code, err, before)

    # writers

    def writers(self):
        """The same command twice at once."""
        tally = self.tally
        for run in self.writing():
            clean = self.clean(run)
            args = self.args(run)
            for _ in range(self.o.writers):
                self.stage.clear()
                both = [self.stage.start(args)]
                time.sleep(self.random.uniform(0, clean.seconds / 2))
                both.append(self.stage.start(args))
                ends = [self.stage.finish(process) for process in both]
                complaints = []
                for code, _, err in ends:
                    if code != 0:
                        complaints += faulty.check_words(Ended(code, b"", err, {}, 0, "", ""))
                codes = [code for code, _, _ in ends]
                if sorted(codes) not in ([0, 0], [0, OUTPUT]):
                    complaints.append(f"codes {codes}")
                if 0 in codes:
                    complaints += faulty.same_files(run, self.stage.files(), clean.files)
                tally.add(run.name, "pairs", "codes {} and {}".format(*codes), complaints,
                          " / ".join(err.strip()[:200] for _, _, err in ends))


PARTS = ("calls", "cuts", "kills", "signals", "disk", "targets", "writers")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="folder of a build with tests")
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    parser.add_argument("--only", action="append", default=[], metavar="WORDS", help="runs whose name has these words")
    parser.add_argument("--share", default="1/1", metavar="I/N", help="every N-th run, from the I-th on")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--signals", type=int, default=3, help="of every kind and command")
    parser.add_argument("--disks", type=int, default=24, help="sizes of every command's disk")
    parser.add_argument("--writers", type=int, default=5, help="pairs of every command")
    parser.add_argument("--scale", type=float, default=1, help="of the first calls and the sample, of kinds that have many")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    wrong = 0
    for number in (signal.SIGINT, signal.SIGTERM):  # the part under way says what it has
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="blockgtq-soak-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as at:
        Path(at).chmod(0o755)
        soak = Soak(options, Path(at))
        for part in options.parts or PARTS:
            if part in ("disk", "targets") and os.geteuid() != 0:
                print(f"{part}: left out: mounting wants root", flush=True)
                continue
            begin = time.monotonic()
            soak.tally = Tally()
            stopped = False
            try:
                getattr(soak, part)()
            except KeyboardInterrupt:
                stopped = True
            print(f"\n## {part}{', stopped early' * stopped}\n\n{soak.tally.table()}\n{time.monotonic() - begin:.0f} s\n", flush=True)
            wrong += len(soak.tally.complaints)
            for line in soak.tally.complaints:
                print(f"- {line}")
            if stopped:
                break
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
