"""What all tests share: deterministic hypothesis, and readable assertions in the contract suite."""

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.contract.suite", "tests.contract.driver", "tests.contract.fake")

# The same examples on every run, so that a failure is found again by whoever runs the tests next.
settings.register_profile("deterministic", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("deterministic")
