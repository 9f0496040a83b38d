"""Plant faults in a good plugin, one at a time, and see which checks of the conformance kit find each.

    python benchmarks/mutants.py [--out FILE.json] [NAME ...]

Every check that runs in this process is tried on every mutant; those that start another (:data:`APART`) only where
they are the one that is meant to find it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

from stzoo.core.conformance.checks import CheckResult
from stzoo.core.conformance.conformance import Conformance
from stzoo.core.conformance.run_checks import run_checks
from stzoo.core.discovery.manager import GROUP, PluginManager

GOOD = Path(__file__).parent / "good_plugin"
APART = ("no-network-to-construct", "same-in-another-process", "memory-is-bounded")
"""Checks in a process of their own."""
ROLES = ("imputer", "encoder", "aligner")


class Mutant(NamedTuple):
    """A fault: in which file (a role, or ``plugin``), what stands there, what takes its place, which check finds it."""

    name: str
    where: str
    old: str
    new: str
    check: str

    @property
    def role(self) -> str:
        """Role of the model that is asked."""
        return "imputer" if self.where == "plugin" else self.where


_FILL = "    def fill("
_AFTER = """    def impute(self, data, **options):
        done = super().impute(data, **options)
        for given, found in zip(getattr(data, "sections", (data,)), getattr(done, "sections", (done,))):
            {0}
        return done

    def fill("""

MUTANTS = [
    # what may not be seen
    Mutant("hidden counts shine through", "imputer", _FILL, _AFTER.format(
        "x = given.adata.X; x = np.asarray(x.todense() if hasattr(x, 'todense') else x, dtype=np.float32);"
        " found.adata.layers['imputed'][~given.measured] += 0.01 * np.log1p(np.abs(x[~given.measured]))"),
        "hidden-spots-poisoned"),
    Mutant("total counts of hidden spots are used", "imputer", _FILL, _AFTER.format(
        "total = given.adata.obs.get('n_counts', 0) * np.ones(len(given));"
        " found.adata.layers['imputed'][~given.measured] += 1e-6 * np.asarray(total)[~given.measured, None]"),
        "hidden-spots-poisoned"),
    Mutant("the file is opened again", "imputer", "        values = given[seen]\n",
        "        values = given[seen]\n"
        "        if section.source.endswith('.h5ad'):\n"
        "            import anndata\n"
        "            lost = np.log1p(np.abs(anndata.read_h5ad(section.source).X)).mean(axis=0)\n"
        "            values = 0.9 * values + 0.1 * lost\n", "hidden-spots-poisoned"),
    Mutant("counts enter the embedding", "encoder", "        return out\n\n    def to",
        "        out[:, 0] += 1e-3 * np.nan_to_num(np.asarray(section.adata.X.sum(axis=1), dtype=np.float32)).ravel()\n"
        "        return out\n\n    def to", "hidden-spots-poisoned"),
    Mutant("a head learns from hidden spots", "encoder", "    def state(",
        "    def fit(self, sections, genes=None, *, head='ridge'):\n"
        "        for one in sections:\n"
        "            one.adata.obs['measured'] = True\n"
        "        return super().fit(sections, genes, head=head)\n\n    def state(", "heads-learn-from-measured-spots"),
    Mutant("hidden spots weigh in", "aligner", "        um, weight = section.um[seen], section.depth[seen]\n",
        "        total = np.nan_to_num(np.asarray(section.adata.X.sum(axis=1), dtype=float)).ravel()\n"
        "        um, weight = section.um, np.abs(total) + 1\n", "hidden-spots-poisoned"),
    # measured spots, and what else goes through
    Mutant("measured spots are smoothed too", "imputer", _FILL,
        "    def _attach(self, section, sheet):\n"
        "        done = super()._attach(section, sheet)\n"
        "        done.adata.layers['imputed'] = (done.adata.layers['imputed'] + np.float32(0.1)) / np.float32(1.1)\n"
        "        return done\n\n    def fill(", "measured-spots-untouched"),
    Mutant("parts leave spots out", "imputer", _FILL,
        "    def fill_parts(self, stack, values, *ranks, progress=None):\n"
        "        from dataclasses import replace\n"
        "        for part in super().fill_parts(stack, values, *ranks, progress=progress):\n"
        "            some = Filled(part.filled.values[:-30], part.filled.confidence[:-30])\n"
        "            yield replace(part, spots=slice(0, -30), filled=some)\n\n    def fill(", "parts-are-the-whole"),
    Mutant("measured spots are doubted", "imputer", _FILL, _AFTER.format(
        "found.adata.layers['confidence'] *= np.float32(0.9)"), "measured-spots-untouched"),
    Mutant("spots come back sorted", "imputer", _FILL,
        "    def impute(self, data, **options):\n"
        "        from dataclasses import replace\n"
        "        done = super().impute(data, **options)\n"
        "        turn = lambda s: replace(s, adata=s.adata[np.argsort(s.adata.obs_names)].copy())\n"
        "        many = hasattr(done, 'sections')\n"
        "        return replace(done, sections=tuple(map(turn, done.sections))) if many else turn(done)\n"
        "\n    def fill(", "measured-spots-untouched"),
    Mutant("the section given is changed", "imputer", _FILL, _AFTER.format(
        "given.adata.obsm['spatial'] -= given.adata.obsm['spatial'].mean(axis=0)"), "inputs-are-left-alone"),
    Mutant("what was measured is ignored", "imputer", "            out[part] = weight @ values\n",
        "            out[part] = weight.sum(axis=1, keepdims=True)\n", "measured-spots-are-read"),
    # what must not matter
    Mutant("genes count by their column", "imputer", "out[part] = weight @ values\n",
        "out[part] = (weight @ values) * np.linspace(0.9, 1.1, given.shape[1])\n", "gene-order"),
    Mutant("distances in pixels (imputer)", "imputer", "section.um, self", "section.pixels, self", "units"),
    Mutant("patches in pixels of the slide", "encoder", "mpp=self.config.mpp)", "mpp=slide.mpp)", "units"),
    Mutant("a transform of pixels", "aligner", "section.um[seen]", "section.pixels[seen]", "units"),
    Mutant("normalised over the batch", "encoder", "            with torch.inference_mode():\n",
        "            features = features - features.mean(axis=0)\n            with torch.inference_mode():\n",
        "batch-size"),
    Mutant("integer counts are taken for positions", "imputer", _FILL, _AFTER.format(
        "found.adata.layers['imputed'][~given.measured] *= np.float32(0.5 if given.adata.X.dtype.kind == 'i' else 1)"),
        "counts-of-any-type"),
    # chance and memory of former calls
    Mutant("noise from the global generator", "imputer", "rng.normal(", "np.random.normal(", "same-seed-same-answer"),
    Mutant("noise from the clock", "imputer", "np.random.default_rng(self.seed)", "np.random.default_rng()",
        "same-seed-same-answer"),
    Mutant("the global generator is seeded", "imputer", "        rng = np.random.default_rng(self.seed)\n",
        "        np.random.seed(self.seed)\n        rng = np.random\n", "global-random-state-is-left-alone"),
    Mutant("weights from torch's global generator", "encoder", ", generator=generator)", ")", "same-seed-same-answer"),
    Mutant("a cache keyed by name", "imputer", "        values = given[seen]\n",
        "        cache = self.__dict__.setdefault('cache', {})\n"
        "        values = cache.setdefault((section.name, seen.sum()), given[seen])\n"
        "        values = values if values.shape == given[seen].shape else given[seen]\n"
        "        values = cache.setdefault(section.name, given[seen]).mean(axis=0) * 0.1 + values * 0.9\n",
        "asked-twice-same-answer"),
    Mutant("the call lives on the model", "imputer", "            out[part] = weight @ values\n",
        "            out[part] = weight @ self.values\n", "threads-agree"),
    Mutant("the hash of a name decides", "imputer", "np.random.default_rng(self.seed)",
        "np.random.default_rng(abs(hash(section.name)))", "same-in-another-process"),
    Mutant("a lambda on the model", "imputer", _FILL,
        "    def __init__(self, config=None, **options):\n"
        "        super().__init__(config, **options)\n"
        "        self.kernel = lambda d: np.exp(-d)\n\n    def fill(", "same-in-another-process"),
    # what comes out
    Mutant("gaps far from measured spots", "imputer", "        return Filled(out, sure)",
        "        out[sure < 0.5] = np.nan\n        return Filled(out, sure)", "filled-is-whole"),
    Mutant("double precision (imputer)", "imputer", "out = np.empty(given.shape, dtype=np.float32)",
        "out = np.empty(given.shape)", "filled-is-whole"),
    Mutant("confidence above 1", "imputer", "sure[part] = np.exp(-nearest / length)",
        "sure[part] = 1.2 * np.exp(-nearest / length)", "filled-is-whole"),
    Mutant("double precision (encoder)", "encoder", "self.embedding_dim), dtype=np.float32)", "self.embedding_dim))",
        "embedding-is-whole"),
    Mutant("genes in alphabetical order", "encoder", "    def state(",
        "    def predict(self, section, genes=None, **options):\n"
        "        return super().predict(section, None if genes is None else sorted(genes), **options)\n\n"
        "    def state(", "prediction-is-whole"),
    Mutant("an unknown gene is the first", "encoder", "    def state(",
        "    def predict(self, section, genes=None, **options):\n"
        "        known = self.genes(options.get('head'))\n"
        "        genes = None if genes is None else [g if g in known else known[0] for g in genes]\n"
        "        return super().predict(section, genes, **options)\n\n    def state(", "missing-gene-is-named"),
    Mutant("without a slide it guesses", "encoder",
        "        slide, centres = section.require_slide(), section.pixels\n",
        "        if section.slide is None:\n"
        "            return np.zeros((len(section), self.embedding_dim), dtype=np.float32)\n"
        "        slide, centres = section.require_slide(), section.pixels\n", "slide-is-read"),
    Mutant("no transform but a matrix", "aligner",
        "        return Transform(np.column_stack([turn, there - turn @ here]))",
        "        class Matrix(Transform):\n            def save(self, path, **options): return path\n"
        "        return Matrix(np.column_stack([turn, there - turn @ here]))", "result-is-a-transform"),
    Mutant("the shift is forgotten", "aligner", "there - turn @ here", "there", "a-section-onto-itself"),
    # saved and loaded
    Mutant("a head is forgotten in save", "encoder", "{**self.mix.state_dict(), **head_tensors(self.fitted_heads)}",
        "dict(self.mix.state_dict())", "saved-and-loaded-bit-equal"),
    Mutant("the bias is forgotten in save and load", "encoder",
        "        restore_module(self.mix, take_heads(self, state, description))",
        "        rest = take_heads(self, state, description)\n"
        "        self.mix.load_state_dict({**rest, 'bias': torch.zeros(self.config.width)})",
        "saved-and-loaded-bit-equal"),
    Mutant("saved in half precision", "encoder", "{**self.mix.state_dict(),",
        "{**{k: v.half() for k, v in self.mix.state_dict().items()},", "saved-and-loaded-bit-equal"),
    Mutant("missing tensors stay random", "encoder",
        "        restore_module(self.mix, take_heads(self, state, description))",
        "        self.mix.load_state_dict(take_heads(self, state, description), strict=False)",
        "damaged-weights-are-refused"),
    Mutant("fitting a head changes the encoder", "encoder", "    def state(",
        "    def fit(self, sections, genes=None, *, head='ridge'):\n"
        "        with torch.no_grad():\n            self.mix.bias += 0.1\n"
        "        return super().fit(sections, genes, head=head)\n\n    def state(", "fitting-keeps-the-encoder"),
    Mutant("to() returns nothing", "encoder", "        return super().to(device)", "        super().to(device)",
        "moves-between-devices"),
    # config, records, imports
    Mutant("options grow when they are read again", "imputer", "    noise: float = 0.01\n",
        "    noise: float = 0.01\n\n    def __post_init__(self):\n        self.length_um *= 1.1\n",
        "config-round-trip"),
    Mutant("unknown options are dropped", "imputer", _FILL,
        "    def __init__(self, config=None, **options):\n"
        "        known = ('length_um', 'noise')\n"
        "        config = {k: v for k, v in config.items() if k in known} if isinstance(config, dict) else config\n"
        "        super().__init__(config, **options)\n\n    def fill(", "unknown-option-is-refused"),
    Mutant("the class has another name", "imputer", 'name = "good-imputer"', 'name = "imputer"',
        "record-leads-to-the-class"),
    Mutant("a licence that nobody knows", "plugin", 'license="MIT"', 'license="free for all"', "records-are-whole"),
    Mutant("torch in the entry module", "plugin", "from stzoo import", "import torch\nfrom stzoo import",
        "entry-module-is-light"),
    Mutant("a look at the network at import", "plugin", "\n\ndef _spec", "\n\nimport urllib.request\ntry:\n"
        "    urllib.request.urlopen('http://example.org', timeout=0.1)\nexcept OSError:\n    pass\n\n\ndef _spec",
        "no-network-at-import"),
    Mutant("a download in the constructor", "imputer", _FILL,
        "    def __init__(self, config=None, **options):\n"
        "        super().__init__(config, **options)\n"
        "        import socket\n"
        "        try:\n            socket.create_connection(('example.org', 80), timeout=0.1).close()\n"
        "        except OSError:\n            pass\n\n    def fill(", "no-network-to-construct"),
    # edges and memory
    Mutant("it crashes on one spot", "imputer", "        values = given[seen]\n",
        "        values = given[seen]\n"
        "        length = max(length, 0.1 * np.sort(cdist(um[seen], um[seen])[0])[1])\n", "one-spot"),
    Mutant("errors that say nothing", "aligner", ', where=section.name, todo="give a larger section")', ")",
        "one-spot"),
    Mutant("all spots by all spots", "imputer", "            distance = cdist(um[part], um[seen])\n",
        "            apart = np.stack([cdist(um, um)] * 3)\n            distance = apart.mean(axis=0)[part][:, seen]\n",
        "memory-is-bounded"),
    Mutant("all patches at once", "encoder", "        for start in range(0, len(centres), batch_size):\n",
        "        batch_size = 10**6\n        for start in range(0, len(centres), batch_size):\n", "memory-is-bounded"),
]  # fmt: skip
"""The call that lives on the model needs a second line: see :func:`source`."""


def source(mutant: Mutant | None, package: str) -> dict[str, str]:
    """Return the files of the good plugin under another name, with a fault planted.

    Raises
    ------
    ValueError
        The text to replace does not stand there once.
    """
    files = {path.stem: path.read_text(encoding="utf-8") for path in sorted(GOOD.glob("*.py"))}
    if mutant is not None:
        key = "__init__" if mutant.where == "plugin" else mutant.where
        if files[key].count(mutant.old) != 1:
            raise ValueError(f"'{mutant.name}': {mutant.old!r} stands {files[key].count(mutant.old)} times in {key}")
        files[key] = files[key].replace(mutant.old, mutant.new)
        if "self.values" in mutant.new:
            files[key] = files[key].replace("values = given[seen]\n", "self.values = values = given[seen]\n")
    return {f"{package}/{name}.py": text.replace("good_plugin", package) for name, text in files.items()}


@contextmanager
def installed(mutant: Mutant | None, number: int = 0) -> Iterator[PluginManager]:
    """Install the plugin (with a fault, or without) as a distribution of its own in a temporary folder."""
    package = f"plugin_{number}_{'good' if mutant is None else 'bad'}"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name, text in source(mutant, package).items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        info = root / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{package} = {package}\n")
        sys.path.insert(0, scratch)
        try:
            points = [p for d in distributions(path=[scratch]) for p in d.entry_points if p.group == GROUP]
            yield PluginManager(points, disabled=())
        finally:
            sys.path.remove(scratch)
            for name in [name for name in sys.modules if name.split(".")[0] == package]:
                del sys.modules[name]


def tried(mutant: Mutant, number: int, *, only: bool = False) -> list[CheckResult]:
    """Return what the checks say of a mutant: all that run in this process, and its own; or its own alone."""

    def wanted(name: str) -> bool:
        return name == mutant.check or (not only and name not in APART)

    with installed(mutant, number) as manager:
        return list(run_checks(Conformance(f"good-{mutant.role}"), manager=manager, wanted=wanted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="mutants, by name; by default all")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    good: dict[str, list[str]] = {}
    for role in ROLES:
        with installed(None) as manager:
            found = list(run_checks(Conformance(f"good-{role}"), manager=manager))
        good[role] = [f"{one.check}: {one.reason}" for one in found if one.state == "failed"]
        print(f"good {role}: {len(found)} checks, {len(good[role])} failed {good[role] or ''}", flush=True)
    rows = {}
    for number, mutant in enumerate(MUTANTS):
        if asked.names and mutant.name not in asked.names:
            continue
        found = [one.check for one in tried(mutant, number) if one.state == "failed"]
        rows[mutant.name] = {"role": mutant.where, "meant": mutant.check, "found_by": found}
        print(f"{'caught' if mutant.check in found else 'MISSED'}  {mutant.name}: {', '.join(found)}", flush=True)
    caught = sum(row["meant"] in row["found_by"] for row in rows.values())
    print(f"caught {caught} of {len(rows)}, each by the check that is meant to")
    if asked.out:
        text = json.dumps({"caught": caught, "planted": len(rows), "good_failed": good, "mutants": rows}, indent=1)
        asked.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
