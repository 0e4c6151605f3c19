#!/usr/bin/env python3
"""Makes numpy_random.json: what numpy's default_rng and QR give for the seeds that rotations take.

  make_numpy_random.py > numpy_random.json      (numpy 2.4.6; its streams have been these since 1.17)

"streams": the first raw words and standard normals of a seed. numpy tests PCG64 with seeds 0 and 0xdeadbeaf.
"rotations": of standard_normal((d, d)) the sha256 (little-endian float64), and of its QR factor Q, columns times
sign(diag R), first column negated if det < 0, the entries at up to N_ENTRIES evenly spaced flat indices.
"""
import hashlib
import json

import numpy as np

N_WORDS, N_ENTRIES = 20, 8
SEEDS = [42, 43, 44, 45, 46, 47, 48, 49, 50, 99, 100, 101]
STREAM_SEEDS = [0, 1, 7, *SEEDS, 1042, 12345, 0xDEADBEAF]
SIZES = [1, 2, 4, 6, 8, 10, 16, 32, 34, 62, 64, 96, 126, 128]


def stream(seed):
    return {"seed": seed, "words": np.random.default_rng(seed).bit_generator.random_raw(N_WORDS).tolist(),
            "normals": np.random.default_rng(seed).standard_normal(N_ENTRIES).tolist()}


def rotation(seed, d):
    normals = np.random.default_rng(seed).standard_normal((d, d))
    q, r = np.linalg.qr(normals)
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] = -q[:, 0]
    at = np.unique(np.linspace(0, d * d - 1, N_ENTRIES).astype(int))
    return {"seed": seed, "d": d, "sha256": hashlib.sha256(normals.astype("<f8").tobytes()).hexdigest(),
            "at": at.tolist(), "rotation": q.reshape(-1)[at].tolist()}


def main():
    groups = {"streams": [stream(seed) for seed in STREAM_SEEDS],
              "rotations": [rotation(seed, d) for seed in SEEDS for d in SIZES]}
    parts = (f' "{name}": [\n' + ",\n".join(f"  {json.dumps(one)}" for one in group) + "\n ]"
             for name, group in groups.items())
    print("{\n" + ",\n".join(parts) + "\n}")


if __name__ == "__main__":
    main()
