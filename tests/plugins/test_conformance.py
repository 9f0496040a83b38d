"""What a third party writes, for plugins whose checks take seconds; test_conformance_costly.py has the others."""

from __future__ import annotations

from stzoo.core.conformance import conformance_tests

test_knn = conformance_tests("knn", config={"neighbours": 4})
test_readers = conformance_tests("readers")
