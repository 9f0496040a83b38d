"""Checks of a plugin as a whole: what is imported, and what its records say."""

from __future__ import annotations

from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from stzoo.core.conformance.cases import CheckContext
from stzoo.core.conformance.checks import MODELS, CheckSkipped, ConformanceError, check
from stzoo.core.conformance.worker import in_process
from stzoo.core.discovery.one_file import DIST
from stzoo.core.errors import StzooError
from stzoo.core.specs import ModelSpec, ProtocolSpec, WeightsSpec


@check("plugin")
def entry_module_is_light(case: CheckContext) -> None:
    """The module of the entry point imports nothing heavy, since every command of stzoo imports it."""
    if case.subject.plugin.dist == DIST:
        raise CheckSkipped("a file is imported only where --plugin names it")
    heavy = _import_of(case)["heavy"]
    if heavy:
        raise ConformanceError(
            f"importing '{case.subject.plugin.module}' also imports {', '.join(heavy)}",
            "keep records alone in the entry module, and import the rest in the modules that targets name",
        )


@check("plugin")
def no_network_at_import(case: CheckContext) -> None:
    """Importing the plugin and asking its hooks opens no connection: it must work on a cluster without a network."""
    tried = _import_of(case)["network"]
    if tried:
        raise ConformanceError(
            f"importing the plugin asks for {tried[0]}", "fetch weights through stzoo.load, or on first use"
        )


def _import_of(case: CheckContext) -> Any:
    module = case.subject.plugin.module
    try:
        return case.once("import", lambda: in_process("light", module))
    except RuntimeError as error:
        raise ConformanceError(f"importing '{module}' fails: {error}", "see 'stzoo plugins info'") from error


@check("plugin")
def records_are_whole(case: CheckContext) -> None:
    """Summaries are one line, and licences SPDX identifiers, so that listings can be read and licences compared."""
    records = case.subject.plugin.specs
    if not records:
        raise ConformanceError("no hook offers anything", "decorate stzoo_models, stzoo_heads ... with @stzoo.hookimpl")
    for record in records:
        if len(record.summary.strip().splitlines()) != 1:
            raise ConformanceError(f"the summary of '{record.name}' is not one line", "write one line")
        if isinstance(record, ModelSpec | WeightsSpec):
            _check_license(record)


def _check_license(record: ModelSpec | WeightsSpec) -> None:
    try:
        canonicalize_license_expression(record.license)
    except InvalidLicenseExpression as error:
        raise ConformanceError(
            f"the licence of '{record.name}' is '{record.license}', no SPDX expression",
            "write an identifier of spdx.org/licenses, e.g. Apache-2.0, or LicenseRef-NAME for another",
        ) from error


@check("plugin")
def records_lead_somewhere(case: CheckContext) -> None:
    """Recipes, protocols and packaged weights that records name are in the package, and weights pass their digests."""
    from stzoo.core.runtime.resources import package_folder, resource
    from stzoo.core.weights.manifest import verify

    for record in case.subject.plugin.specs:
        try:
            if isinstance(record, ProtocolSpec):
                resource(record.resource)
            if isinstance(record, ModelSpec) and record.recipes:
                resource(record.recipes)
            if isinstance(record, WeightsSpec) and record.source.startswith("package://"):
                verify(package_folder(record.source))
        except StzooError as error:
            raise ConformanceError(
                f"'{record.name}': {error.what}", "declare the files as package data, and reinstall"
            ) from error


@check(*MODELS, "reader")
def no_network_to_construct(case: CheckContext) -> None:
    """Importing the class and making the object opens no connection either."""
    record = case.record
    targets = [record.target, record.config] if isinstance(record, ModelSpec) else [record.target]
    try:
        tried = in_process("construct", targets, record.target, isinstance(record, ModelSpec))
    except RuntimeError as error:
        raise ConformanceError(
            f"making '{record.name}' without a network fails: {error}", "fetch on first use"
        ) from error
    if tried:
        raise ConformanceError(
            f"making '{record.name}' asks for {tried[0]}", "fetch weights through stzoo.load, not in code"
        )
