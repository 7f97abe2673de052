"""One line for each check, and the count."""

import traceback


class Tally:
    """Counts what passed, failed and was skipped. Checks without `only` in their names are passed over."""

    def __init__(self, only=""):
        self.only = only
        self.passed = self.failed = self.skipped = 0

    def check(self, name, test, needed=False):
        """Runs a check: it fails by an exception, or with the text that it returns. Others may need it."""
        if self.only not in name and not needed:
            return
        try:
            wrong = test()
        except Exception as error:  # noqa: BLE001: whatever it is, the other checks go on
            place = traceback.extract_tb(error.__traceback__)[-1]
            wrong = f"{type(error).__name__}: {error} ({place.filename.rsplit('/', 1)[-1]}:{place.lineno})"
        if wrong:
            self.failed += 1
            print(f"FAILED  {name}")
            for line in str(wrong).splitlines():
                print(f"        {line}")
        else:
            self.passed += 1
            print(f"ok      {name}")

    def skip(self, name, why):
        """Counts a check that cannot be made here."""
        if self.only not in name:
            return
        self.skipped += 1
        print(f"skipped: {name}: {why}")

    def finish(self):
        """The last line, and the exit code."""
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed else 0
