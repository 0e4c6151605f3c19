#!/usr/bin/env bash
# fuzzywuzzy's ratio is another number where python-Levenshtein is installed: LongBench's code scores depend on it.
#
# fuzzywuzzy 0.18.0: without python-Levenshtein the ratio is difflib's (matching blocks, greedily), with it that of the longest common
# subsequence, which is never less by definition, and the package's only word is that the former is slow. Of 500 pairs of made-up lines
# of code 252 differ, by up to 34 points of 100. LongBench's requirements name fuzzywuzzy alone; whoever follows the warning's advice, or
# takes thefuzz, its successor, has other scores for lcc and repobench-p.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/ratios.py" <<'PYTHON'
import random, warnings
warnings.filterwarnings("ignore")
from fuzzywuzzy import fuzz

random.seed(1)
words = "return self.x foo(bar) if else: import numpy as np = + def".split()
line = lambda: " ".join(random.choice(words) for _ in range(random.randint(2, 12)))
print(*[fuzz.ratio(line(), line()) for _ in range(500)])
PYTHON
ratios() {  # of fuzzywuzzy with these packages beside it
  python3 -m venv --clear "$folder/venv"
  "$folder/venv/bin/pip" install --quiet fuzzywuzzy==0.18.0 "$@"
  "$folder/venv/bin/python" "$folder/ratios.py"
}
ratios > "$folder/alone"
ratios python-Levenshtein==0.27.1 > "$folder/beside"
python3 - "$folder/alone" "$folder/beside" <<'PYTHON'
import sys

alone, beside = ([int(x) for x in open(name).read().split()] for name in sys.argv[1:])
different = sum(a != b for a, b in zip(alone, beside))
most = max(abs(a - b) for a, b in zip(alone, beside))
print(f"fuzzywuzzy with and without python-Levenshtein: {different} of {len(alone)} ratios differ, by up to {most}")
assert (different, most) == (252, 34), "the behaviour has changed"
PYTHON
