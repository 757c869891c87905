"""Counts what a session costs, in instructions, and compares with `instructions.json`.

    instructions.py PROGRAM            fails when a case costs more, or less, than it should
    instructions.py PROGRAM --update   writes what it costs now: for changes made on purpose
    instructions.py PROGRAM --profile CASE    leaves callgrind's profile for callgrind_annotate

Per message, or per MiB where the name says so. Unlike times, counts do not depend on what else
the machine does.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

EXPECTED = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.03
UPDATE = "tests/bench/instructions.sh --update"


def count(program, case, profile=None):
    with tempfile.TemporaryDirectory() as directory:
        out = profile or f"{directory}/callgrind"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--toggle-collect=*counted*",
             f"--callgrind-out-file={out}", program, case],
            env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        raise SystemExit(f"{case} failed:\n{done.stderr}")
    return round(int(found[1]) / int(done.stdout))


def main():
    program, *options = sys.argv[1:]
    if options[:1] == ["--profile"]:
        file = f"callgrind.{options[1]}"
        print(f"{count(program, options[1], file)} instructions; see callgrind_annotate {file}")
        return
    cases = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(cases, pool.map(lambda case: count(program, case), cases)))
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    wrong = []
    for case, now in found.items():
        before = expected.get(case)
        change = f"{now / before - 1:+.1%}" if before else "new"
        print(f"{case:28}{now:12,}{change:>9}")
        if not before or abs(now / before - 1) > TOLERANCE:
            wrong.append(f"{case}: {now:,} instructions, {change} against {before or 'nothing'}")
    wrong += [f"{case}: expected, but not there" for case in expected.keys() - found.keys()]
    if options == ["--update"]:
        EXPECTED.write_text(json.dumps(found, indent=2) + "\n")
    elif wrong:
        raise SystemExit(
            f"more than {TOLERANCE:.0%} away from {EXPECTED.name}:\n  " + "\n  ".join(wrong)
            + f"\nWhere that is meant, `{UPDATE}` writes it down."
        )


if __name__ == "__main__":
    main()
