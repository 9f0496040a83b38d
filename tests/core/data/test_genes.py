"""Gene panels: every wanted gene is found once or named as missing."""

from __future__ import annotations

import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from stzoo.core.data.genes import match_genes
from stzoo.core.data.section import Section
from stzoo.core.errors import GeneError

SYMBOLS = ["ERBB2", "COL1A1", "TBCE", "TBCE-1"]
IDS = ["ENSG00000141736", "ENSG00000108821", "ENSG00000284770", "ENSG00000116957"]
BOTH = pd.DataFrame({"gene_ids": IDS}, index=SYMBOLS)


@given(st.sets(st.text(min_size=1, max_size=4)), st.lists(st.text(min_size=1, max_size=4), unique=True))
def test_found_missing_and_unseen_part_the_genes(wanted, known):
    panel = match_genes(sorted(wanted), pd.DataFrame(index=pd.Index(known, dtype=str)))
    assert set(panel.found) | set(panel.missing) == wanted
    assert not set(panel.found) & set(panel.missing)
    assert set(panel.found.values()) | set(panel.unused) == set(known)
    assert all(gene == name for gene, name in panel.found.items())


def test_symbols_and_ids_go_either_way():
    panel = match_genes(["ENSG00000141736.15", "COL1A1"], BOTH)
    assert panel.found == {"ENSG00000141736.15": "ERBB2", "COL1A1": "COL1A1"}
    by_id = pd.DataFrame({"gene_name": ["ERBB2", "COL1A1", "TBCE", "TBCE"]}, index=[f"{i}.2" for i in IDS])
    panel = match_genes(["ERBB2", IDS[1], "GRB7"], by_id)
    assert panel.found == {"ERBB2": f"{IDS[0]}.2", IDS[1]: f"{IDS[1]}.2"}
    assert panel.missing == ("GRB7",)
    assert panel.unused == (f"{IDS[2]}.2", f"{IDS[3]}.2")


def test_a_symbol_of_two_genes_is_named():
    by_id = pd.DataFrame({"gene_name": ["ERBB2", "COL1A1", "TBCE", "TBCE"]}, index=IDS)
    panel = match_genes(["TBCE"], by_id)
    assert (panel.found, panel.ambiguous) == ({"TBCE": IDS[2]}, ("TBCE",))
    assert "ambiguous, first taken: TBCE" in panel.report()
    assert match_genes(["TBCE"], BOTH).ambiguous == ()  # there the name itself says which one


def test_a_gene_wanted_twice_is_refused():
    with pytest.raises(GeneError, match="more than once: ERBB2"):
        match_genes(["ERBB2", "TBCE", "ERBB2"], BOTH)
    with pytest.raises(GeneError, match="'ERBB2' and 'ENSG00000141736' are one gene"):
        match_genes(["ERBB2", "ENSG00000141736"], BOTH)


def test_missing_genes_are_named_with_the_nearest():
    panel = match_genes(["erbb2", "COL1A1"], BOTH)
    assert panel.report() == "1 genes found, 1 missing, 3 unused; missing: erbb2"
    with pytest.raises(GeneError, match=r"no gene 'erbb2'; did you mean 'ERBB2'\?"):
        panel.require_all("a.h5ad")
    assert match_genes(["COL1A1"], BOTH).require_all().missing == ()


def test_a_section_takes_either_name():
    section = Section(AnnData(pd.DataFrame([[1.0, 2, 3, 4]], columns=SYMBOLS)), "s")
    section.adata.var["gene_ids"] = IDS
    assert list(section.gene_index(["ENSG00000108821", "ERBB2"])) == [1, 0]
    with pytest.raises(GeneError, match="did you mean 'COL1A1'"):
        section.gene_index(["col1a1"])
