"""Evaluation protocols that ship with stzoo, as YAML files beside this module (import-light)."""

from __future__ import annotations
