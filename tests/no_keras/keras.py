"""In the way of the real package while `make quick` runs, in the tests and in the processes that they start."""

import os

test = os.environ.get("PYTEST_CURRENT_TEST") or "the collection of tests"
raise RuntimeError(f"{test} imports {__name__}, which `make quick` does without: mark it @pytest.mark.slow")
