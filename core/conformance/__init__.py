"""The conformance kit: whether a plugin keeps its contract, and whether what it answers can be believed.

One line in a plugin's tests runs every check that fits its role, each as a test of its own::

    from stzoo.core.conformance import conformance_tests

    test_conformance = conformance_tests("my-model")

``stzoo plugins check NAME`` runs the very same checks without pytest. This package is light to import: pytest loads it
in every environment that has stzoo.
"""

from __future__ import annotations

from stzoo.core.conformance.conformance import Conformance, conformance_tests

__all__ = ["Conformance", "conformance_tests"]
