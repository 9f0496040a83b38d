"""The contract that stzoo sets for every aligner: one test a check."""

from stzoo import conformance_tests

test_conformance = conformance_tests("paste")
