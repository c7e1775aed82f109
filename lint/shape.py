#!/usr/bin/env python3
"""Holds the sources to their shape: files of at most 800 lines, functions of at most 70, lines of at most
100 columns, and no marker of unfinished work."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("src", "include", "safekeeper", "pageserver", "compute-ext", "tests")
MARKERS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")


def functions(lines):
    """Yields (first line, length) of each block that starts with '{' in column 0."""
    start = None
    for n, line in enumerate(lines, 1):
        if line.startswith("{"):
            start = n
        elif line.startswith("}") and start:
            yield start, n - start - 1
            start = None


def check(p):
    path = p.relative_to(ROOT)
    lines = p.read_text(errors="replace").splitlines()
    if len(lines) > 800:
        yield f"{path}: {len(lines)} lines (800 are allowed)"
    for n, line in enumerate(lines, 1):
        if len(line.expandtabs(4)) > 100:
            yield f"{path}:{n}: {len(line)} columns (100 are allowed)"
        if MARKERS.search(line):
            yield f"{path}:{n}: a marker of unfinished work"
    for n, length in functions(lines):
        if length > 70:
            yield f"{path}:{n}: a function of {length} lines (70 are allowed)"


def main():
    files = [p for f in FOLDERS for p in (ROOT / f).glob("**/*.[ch]")]
    errors = [e for p in files for e in check(p)]
    print("\n".join(errors + [f"shape: {len(files)} files, {len(errors)} errors"]))
    return 1 if errors or not files else 0


if __name__ == "__main__":
    sys.exit(main())
