"""A plugin without faults, that ``mutants.py`` plants faults in: an imputer, an encoder and an aligner."""

from __future__ import annotations

from collections.abc import Iterable

from stzoo import ModelSpec, hookimpl


def _spec(role: str, cls: str) -> ModelSpec:
    home = f"good_plugin.{role}"
    return ModelSpec(
        name=f"good-{role}",
        role=role,
        target=f"{home}:{cls}",
        config=f"{home}:{cls}Config",
        summary=f"an {role} without faults",
        license="MIT",
    )


@hookimpl
def stzoo_models() -> Iterable[ModelSpec]:
    """Offer the three."""
    return [_spec("imputer", "Good"), _spec("encoder", "Good"), _spec("aligner", "Good")]
