"""Fine-tuning on real tissue: patients of her2st are known by their names, and kept apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import stzoo
from stzoo.core.data.splits import SplitOptions, patient_of
from stzoo.core.errors import UsageError
from stzoo.core.finetuning.plan import describe_plan, plan_finetuning
from stzoo.core.finetuning.run import carry_out
from stzoo.core.finetuning.settings import read_settings

pytestmark = pytest.mark.real


def test_one_patient_on_both_sides_is_refused_unless_accepted(shared_data: Path, tmp_path: Path) -> None:
    own, test = (stzoo.read(f"{shared_data / 'her2st'}::{name}") for name in ("C4", "C5"))
    assert patient_of(own) == patient_of(test) == "C"
    encoder = stzoo.load("comtip-tiny")
    with pytest.raises(UsageError, match="--same-patient"):
        plan_finetuning(encoder, [own], test=[test])
    plan = plan_finetuning(
        encoder, [own], test=[test], settings=read_settings("head"), options=SplitOptions(same_patient=True)
    )
    assert any("says nothing about others" in line for line in describe_plan(plan))
    done = carry_out(plan, tmp_path / "tuned", progress=False)
    test_pcc = {line["name"]: line["pcc_mean"] for line in done.report["lines"]}
    assert test_pcc["after: head tuned"] > test_pcc["ridge on colour-texture"] > 0.2
    assert "one patient" in (tmp_path / "tuned" / "report.md").read_text()
