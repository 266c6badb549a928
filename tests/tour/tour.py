"""Goes through docs/demo.md: runs every command that stands there, and compares what it answers with what stands there.

A command is a line of a `console` block that begins with `$ `; the lines up to the next one are its answer. In an answer, `…` stands for
anything, and one blank for any number of them; without an answer, none is looked at. What is only said on standard error may be
left out, so answers are looked for on standard output first and then on both. A comment before a block says more:

    <!-- until -->             the last command of the block is repeated until it answers as shown
    <!-- fails -->             it ends with another status than 0
    <!-- only with: PATH -->   it holds once the repository has PATH

usage: tour.py DOCUMENT LEAST_NUMBER_OF_COMMANDS
"""

import os
import pathlib
import re
import subprocess
import sys
import time

PATIENCE_SECONDS = 60
ROOT = pathlib.Path(__file__).resolve().parents[2]
ONLY_WITH = "only with: "


class Command:
    """One command, the answer that it must give, and how it is to be run."""

    def __init__(self, line, text, remarks):
        self.line = line
        self.text = text
        self.answer = []
        self.fails = "fails" in remarks
        self.until = False

    def run(self):
        text = self.text.replace("http://localhost:9174", os.environ.get("TOUR_N1_ADMIN", "http://localhost:9174"))
        return subprocess.run(["bash", "-c", text], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=PATIENCE_SECONDS * 2, check=False)

    def differs(self, done):
        """What is not as it should be, if anything."""
        if (done.returncode != 0) != self.fails:
            return f"status {done.returncode}"
        if self.answer and not any(fits(self.answer, given) for given in
                                   (done.stdout, done.stderr + done.stdout, done.stdout + done.stderr)):
            return "another answer"
        return None


def fits(expected, given):
    given = [" ".join(line.split()) for line in given.splitlines() if line.strip()]
    expected = [" ".join(line.split()) for line in expected]
    return len(given) == len(expected) and all(
        re.fullmatch(".*".join(map(re.escape, one.split("…"))), other) for one, other in zip(expected, given))


def commands(document):
    """All commands of the document that hold, in order."""
    found, remarks, block = [], [], None
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        if block is None:
            if line == "```console":
                block = []
            elif remark := re.fullmatch(r"<!-- (.*) -->", line):
                remarks.append(remark[1])
            elif line.strip():
                remarks = []
        elif line == "```":
            absent = [remark for remark in remarks if remark.startswith(ONLY_WITH) and not (ROOT / remark[len(ONLY_WITH):]).exists()]
            if absent:
                print(f"{document}:{number}: left out, {absent[0]}", flush=True)
            else:
                block[-1].until = "until" in remarks
                found += block
            block, remarks = None, []
        elif line.startswith("$ "):
            block.append(Command(number, line[2:], remarks))
        else:
            block[-1].answer.append(line)
    return found


def main():
    document = pathlib.Path(sys.argv[1])
    todo = commands(document)
    # Fewer would mean that the document is not understood any more.
    if len(todo) < int(sys.argv[2]):
        raise SystemExit(f"{document} has {len(todo)} commands only: is it read as it should be?")
    for command in todo:
        begun = time.monotonic()
        while True:
            done = command.run()
            differs = command.differs(done)
            if not differs or not command.until or time.monotonic() - begun > PATIENCE_SECONDS:
                break
            time.sleep(0.1)
        print(f"{time.monotonic() - begun:6.2f} s  $ {command.text}", flush=True)
        if differs:
            raise SystemExit("\n".join([f"{document}:{command.line}: {differs}; this was expected:", *command.answer,
                                        "and this came:", done.stdout + done.stderr]))
    print(f"{document}: {len(todo)} commands did what stands there", flush=True)


if __name__ == "__main__":
    main()
