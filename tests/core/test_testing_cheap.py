"""What a third party writes, for shipped plugins whose checks take seconds; test_testing_costly.py has the others."""

from __future__ import annotations

from stzoo.core.conformance import conformance_tests

test_knn = conformance_tests("knn", config={"neighbours": 4})
test_readers = conformance_tests("readers")
