"""A run of blockgtq in a folder of its own, with a call that fails (faults.cpp), and whether it ended as it should."""
import html
import json
import os
import shutil
import stat
import struct
import subprocess
from dataclasses import dataclass

KINDS = ("open read write print sync rename link unlink folder close stat size lock map memory block thread "
         "process").split()
BOARD = struct.Struct(f"{len(KINDS) + 1}Q32s864s96s")  # board.h
SECONDS = 60  # no run of ours takes so long
OLD = b"an older file\n"

INPUT, OUTPUT, MEMORY = 3, 4, 5  # exit codes of README.md
STOPPED, INTERRUPTED = 75, 130


@dataclass
class Ended:
    code: int  # negative: by this signal; None: it hung
    out: bytes
    err: str
    calls: dict  # how many of every kind
    failed: int  # how many of them were made to
    call: str  # the first of these
    path: str  # that it was about
    crashed: str = ""  # the file whose code crashed


def text_of(data):
    return data.split(b"\0")[0].decode(errors="replace")


class Stage:
    """Where runs are executed: one folder, made anew for each of them."""

    def __init__(self, binary, library, inputs, scratch):
        self.binary, self.library, self.inputs = str(binary), str(library), inputs
        self.folder = scratch / "run"
        self.board = scratch / "board"
        self.environment = dict(os.environ, OMP_WAIT_POLICY="passive", OMP_STACKSIZE="8M", LC_ALL="C")

    def clear(self, files=None):
        """An empty folder, or with these files."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for name, data in (files or {}).items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def start(self, args, environment=None, **more):
        return subprocess.Popen([self.binary, *args], cwd=self.folder, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment or self.environment, **more)

    def finish(self, process, seconds=SECONDS):
        try:
            out, err = process.communicate(timeout=seconds)
            code = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            code = None
        except KeyboardInterrupt:
            process.kill()
            process.wait()
            raise
        return code, out, err.decode(errors="replace")

    def run(self, args, faults=""):
        """Counts its calls, and makes one fail: FAULTS of faults.cpp."""
        self.board.write_bytes(bytes(BOARD.size))
        environment = dict(self.environment, LD_PRELOAD=self.library, FAULTS=faults, FAULTS_BOARD=str(self.board))
        code, out, err = self.finish(self.start(args, environment))
        *numbers, call, path, crashed = BOARD.unpack(self.board.read_bytes())
        return Ended(code, out, err, dict(zip(KINDS, numbers)), numbers[-1], text_of(call), text_of(path),
                     text_of(crashed))

    def files(self):
        """What lies in the folder: the bytes of files, None for folders, of others a word."""
        found = {}
        for at, folders, files in os.walk(self.folder):
            for path in (os.path.join(at, name) for name in folders + files):
                mode = os.lstat(path).st_mode
                name = os.path.relpath(path, self.folder)
                if stat.S_ISLNK(mode):
                    found[name] = b"link to " + os.fsencode(os.readlink(path))
                elif stat.S_ISREG(mode):
                    with open(path, "rb") as file:
                        found[name] = file.read()
                else:
                    found[name] = None if stat.S_ISDIR(mode) else b"pipe or socket"
        return found


@dataclass
class Clean:
    """How a run ends that nothing disturbs."""
    out: bytes
    files: dict
    calls: dict
    seconds: float


def same_files(run, found, wanted):
    """Complaints where two folders differ."""
    complaints = [f"{name}: missing" for name in wanted if name not in found]
    complaints += [f"{name}: left behind" for name in found if name not in wanted]
    for name, data in found.items():
        if data is not None and wanted.get(name) is not None and run.comparable(data) != run.comparable(wanted[name]):
            complaints.append(f"{name}: other bytes")
    return complaints


def is_temporary(name):
    last = name.rsplit("/", 1)[-1]
    return last.startswith(".") and last.endswith((".tmp", ".old"))


def check_left(run, before, after, clean, whole_allowed, leftovers_allowed, reasons=()):
    """Complaints about what a run that failed left: outputs as they were, nothing else but what the next run goes on
    with. whole_allowed: outputs may be whole; leftovers_allowed: files may lie there that could not be removed;
    reasons: why models of a panel are missing, which its outputs must say."""
    complaints = [f"{name}: lost" for name in before if name not in after]
    for name, data in after.items():
        if name in before and data == before[name]:
            continue
        whole = name in clean.files and (data is None or run.comparable(data) == run.comparable(clean.files[name]))
        if data is None:
            if name not in run.folders and not leftovers_allowed:
                complaints.append(f"{name}: a folder left behind")
        elif name in run.outputs:
            if reasons and not whole:
                complaints += [f"{name}: does not say: {r}" for r in reasons
                               if not any(form.encode() in data for form in (r, html.escape(r), json.dumps(r)[1:-1]))]
            elif not (whole and whole_allowed):
                complaints.append(f"{name}: {'whole' if whole else 'partial'}, of a failed run")
        elif run.keeps(name):
            if name.endswith(".jsonl") and not clean.files[name].startswith(data):
                complaints.append(f"{name}: other bytes")
            elif name in clean.files and not name.endswith(".jsonl") and not whole:
                complaints.append(f"{name}: partial")
        elif not (leftovers_allowed and is_temporary(name)):
            complaints.append(f"{name}: left behind")
    return complaints


def missing_models(ended):
    """Why a panel's run has no figures of some models."""
    if "models failed" not in ended.err:
        return []
    return [line.split(": ", 2)[2] for line in ended.err.splitlines() if line.startswith("warning: ") and line.count(": ") > 1]


def check_words(ended):
    """Complaints about standard error of a run that failed: one error line, and nothing that is no line of ours."""
    lines = ended.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    others = [line for line in lines if not line.startswith(("error: ", "hint: ", "warning: "))]
    complaints = [] if len(errors) == 1 else [f"{len(errors)} error lines"]
    if others:
        complaints.append(f"standard error: {others[0]}")
    return complaints
