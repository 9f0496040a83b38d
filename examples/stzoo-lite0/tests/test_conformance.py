"""The contract that stzoo sets for every encoder: one test a check."""

from stzoo import conformance_tests

test_conformance = conformance_tests("lite0", config={"tile_px": 64})  # small tiles make cheap tests
