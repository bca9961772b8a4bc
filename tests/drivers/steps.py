"""What the Python programs share: steps that print `ok NAME`, and the insert loop that has to outlive a failover."""

import os
import sys
import time
import traceback

STEPS = []


def step(function):
    """Enters a step; they run in the order in which they are written."""
    STEPS.append(function)
    return function


def same(found, wanted, what="value"):
    """Fails the step where what was found is not what was wanted."""
    if found != wanted:
        raise AssertionError(f"{what}: found {found!r}, wanted {wanted!r}")


def raises(errors, call, sqlstate=None):
    """Fails the step where the call does not raise one of these errors, with this SQLSTATE where one is given."""
    try:
        call()
    except errors as error:
        code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if sqlstate is not None:
            same(code, sqlstate, "SQLSTATE")
        return error
    raise AssertionError(f"no error, wanted {sqlstate or errors}")


def arguments():
    """The URL, and for how many seconds rows are to be inserted (zero: run the steps)."""
    url = sys.argv[1]
    seconds = float(sys.argv[3]) if sys.argv[2:3] == ["inserts"] else 0.0
    return url, seconds


def run(context):
    """Runs every step that was entered; ends the program with 1 where any fails."""
    failed = False
    for function in STEPS:
        name = function.__name__
        try:
            function(context)
            print(f"ok {name}", flush=True)
        except Exception:  # A step may fail in any way; the others still run.
            failed = True
            print(f"FAILED {name}", flush=True)
            traceback.print_exc()
            if os.environ.get("DRIVERS_STOP"):
                break
    sys.exit(1 if failed else 0)


class Inserts:
    """Autocommitted inserts over one connection: what was acknowledged, what failed, and the longest pause."""

    def __init__(self, seconds):
        self.deadline = time.monotonic() + seconds
        self.acknowledged = []
        self.errors = []
        self.longest = 0.0
        self.next = 0
        self.asked = 0.0

    def again(self):
        """The next number to insert; None when the time is over."""
        if time.monotonic() >= self.deadline:
            return None
        self.next += 1
        self.asked = time.monotonic()
        return self.next

    def done(self):
        """The insert was acknowledged."""
        self.longest = max(self.longest, time.monotonic() - self.asked)
        self.acknowledged.append(self.next)

    def failed(self, error):
        """The insert was answered with an error: its outcome is told by it, or is unknown."""
        self.longest = max(self.longest, time.monotonic() - self.asked)
        self.errors.append(f"{getattr(error, 'sqlstate', '')} {error}".strip().splitlines()[0])
        if len(self.errors) > 20:
            raise AssertionError(f"too many errors, the last: {error}")

    def judge(self, found):
        """Ends the program: 1 where a row that was acknowledged is not among those found."""
        missing = set(self.acknowledged) - set(found)
        word = "FAILED" if missing or not self.acknowledged else "ok"
        print(
            f"{word} inserts acknowledged={len(self.acknowledged)} missing={len(missing)} "
            f"errors={len(self.errors)} longest_ms={self.longest * 1000:.0f}",
            flush=True,
        )
        for error in self.errors:
            print(f"   error: {error}", flush=True)
        sys.exit(0 if word == "ok" else 1)
