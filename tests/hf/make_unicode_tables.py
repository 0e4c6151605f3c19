#!/usr/bin/env python3
"""Writes lib/hf/unicode_tables.cpp: what the `tokenizers` library holds of single code points, measured.

    make_unicode_tables.py > lib/hf/unicode_tables.cpp

Needs Python 3.11 (unicodedata 14.0, the Unicode version of PCRE2 10.3x and 10.42), tokenizers (its Oniguruma knows
Unicode 16.0, its normalizers 9.0) and regex (the newest Unicode; code points assigned after 16.0 are taken from it).
"""
import unicodedata

import regex
from tokenizers import AddedToken, Regex, Tokenizer, models
from tokenizers import normalizers, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()
ALL = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
TEXT = "".join(map(chr, ALL))


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def utf8_length(c):
    return len(chr(c).encode())


def oniguruma_categories():
    category = {c: "Cn" for c in ALL}
    for name in CATEGORIES:
        split = pre_tokenizers.Split(Regex(r"\p{%s}" % name), "removed", invert=True)
        for piece, _ in split.pre_tokenize_str(TEXT):
            for c in piece:
                category[ord(c)] = name
    return category


def newest_categories():
    return {ord(c): name for name in CATEGORIES for c in regex.findall(r"\p{%s}" % name, TEXT)}


def replacements(old, now, newest):
    """(first, last, replacement): the nearest code point of the same length whose category all three agree on."""
    stable = {c for c in ALL if old[c] == now[c] == newest[c]}
    by_kind = {}
    for c in sorted(stable):
        by_kind.setdefault((now[c], utf8_length(c)), []).append(c)
    changed = [c for c in ALL if c not in stable]
    rows = []
    for c in changed:
        kind = (now[c], utf8_length(c))
        if rows and rows[-1][1] == c - 1 and rows[-1][2] == kind:
            rows[-1][1] = c
        else:
            rows.append([c, c, kind])
    return [(a, b, min(by_kind[kind], key=lambda x: abs(x - a))) for a, b, kind in rows]


def inert(old, newest):
    """Code points that some Unicode version decomposes, composes or reorders and the library's normalizers do not."""
    nfkd = normalizers.NFKD()
    special = {ord(c) for c in regex.findall(r"\P{ccc=0}|\P{dt=none}", TEXT)}

    def moves(c):
        return (nfkd.normalize_str(chr(c)) != chr(c) or nfkd.normalize_str("a" + chr(c) + "\u0334")[-1] != "\u0334" or
                nfkd.normalize_str("a\u0345" + chr(c))[-1] != chr(c))

    new = {c for c in ALL if old[c] == "Cn" and newest[c] != "Cn"}
    dives_akuru = {0x11930, 0x11935, 0x11938}  # composes since Unicode 13
    no_consonant = {0x11A7}  # utf8proc takes it for a trailing consonant that leaves the syllable as it is
    # U+10000 and above, and what is new: there no composition of Unicode 9 has a part that does not move.
    # NFD of 11935 11930 and the like is checked by the comparison test.
    return {c for c in new | special | dives_akuru | no_consonant if not moves(c)}


def cut_off(split, separator):
    """Code points that a pre-tokenizer cuts off from white space before and behind them."""
    pieces = split.pre_tokenize_str("".join(chr(c) + separator for c in ALL if chr(c) != separator))
    return {ord(p) for p, _ in pieces if len(p) == 1 and p != separator}


def numeric():
    return cut_off(pre_tokenizers.Digits(individual_digits=True), "\n")


def punctuation():
    return cut_off(pre_tokenizers.Punctuation("isolated"), "\n")


def word():
    tokenizer = Tokenizer(models.BPE(vocab={"no": 0}, merges=[]))
    tokenizer.add_tokens([AddedToken("@@", single_word=True, normalized=False)])
    return {c for c in ALL if not tokenizer.encode("@@" + chr(c)).ids}


def table(kind, name, rows):
    print("const %s %s[] = {" % (kind, name))
    line = "   "
    for row in rows:
        item = " {" + ", ".join("0x%X" % v for v in row) + "},"
        if len(line + item) > 108:
            print(line)
            line = "   "
        line += item
    print(line + "\n};\nconst size_t %sCount = %d;\n" % (name, len(rows)))


def main():
    old = {c: unicodedata.category(chr(c)) for c in ALL}
    now, newest = oniguruma_categories(), newest_categories()
    print("// Made by tests/hf/make_unicode_tables.py; do not edit.")
    print("// clang-format off")
    print('#include "hf/unicode_tables.h"\n\nnamespace blockgtq {\n')
    table("CodeReplacement", "kReplaced", replacements(old, now, newest))
    table("CodeRange", "kInert", ranges(inert(old, newest)))
    table("CodeRange", "kNumeric", ranges(numeric()))
    table("CodeRange", "kPunctuation", ranges(punctuation()))
    table("CodeRange", "kWord", ranges(word()))
    print("}  // namespace blockgtq")


if __name__ == "__main__":
    main()
