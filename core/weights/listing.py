"""Weights that a plugin lists in a YAML file of its package, beside its code: one mapping for each name.

>>> @hookimpl
... def stzoo_weights():
...     return weights_from_yaml("my_plugin/weights.yaml")     # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import fields
from importlib.resources import files

from stzoo.core.errors import nearest
from stzoo.core.specs import WeightsSpec


def weights_from_yaml(resource: str) -> list[WeightsSpec]:
    """Read the records of a YAML file.

    Parameters
    ----------
    resource
        ``package.module/file.yaml``. Its keys are names, below each the fields of
        :class:`~stzoo.core.specs.WeightsSpec`.

    Raises
    ------
    ValueError
        A key that no record has, or a value that none may have: the plugin is listed as broken, and why.
    """
    import yaml

    package, _, name = resource.partition("/")
    content = yaml.safe_load(files(package).joinpath(name).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(values, dict) for values in content.values()):
        raise ValueError(f"{resource}: expected a mapping for each name of weights")
    known = [field.name for field in fields(WeightsSpec) if field.name != "name"]
    found = []
    for weights, values in content.items():
        for key in values:
            if key not in known:
                raise ValueError(f"{resource}: '{weights}' has an unknown key '{key}'{nearest(str(key), known)}")
        try:
            found.append(WeightsSpec(name=weights, **values))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{resource}: '{weights}': {error}") from error
    return found
