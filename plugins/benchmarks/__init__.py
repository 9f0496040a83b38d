"""Kinds of evaluation protocols that ship with stzoo, and the protocols as YAML files (import-light)."""

from __future__ import annotations

from collections.abc import Iterable

from stzoo import ProtocolSpec, TaskSpec, hookimpl

STZOO_API = 1

_PROTOCOLS = (
    ("her2st-c5", "unseen section: train her2st C2-C4, test C5; models are trained for each of three seeds"),
    ("her2st-c5-quick", "the same split with the packaged weights and the baselines, nothing is trained"),
    ("her2st-c5-ablation", "the same split: each part of CoMTIP off in turn, in our and in the paper's configuration"),
    (
        "her2st-c5-finetune",
        "weights of C2 and C3 tuned on 25 to 180 spots of C4, tested on C5; before, after, controls",
    ),
    ("her2st-zeroshot-genes", "gene families held out by name, predicted zero-shot on C5, with permutation tests"),
    ("her2st-retrieval", "image -> expression and expression -> image among the spots of C5: Recall@k"),
    ("dlpfc-clustering", "k-means of frozen embeddings against cortical layers: ARI (the paper's task 1)"),
    ("dlpfc-eight-genes", "eight genes, 80/20 spots of a slide: MAE and PCC (the paper's task 2)"),
    ("xenium-q1-50um", "fill three quarters of the 50 µm bins of a breast tumour, four phases (Xenium, quadrant 1)"),
    ("xenium-q1-50um-ablation", "the same data: each part of s2s-st's refined variant off in turn"),
    ("xenium-q1-50um-cdcin", "the same, two phases, eight genes: each part of the paper's network off in turn"),
    ("xenium-q1-25um", "the same at 25 µm"),
    ("xenium-q2-50um", "the same at 50 µm in quadrant 2"),
    ("her2st-c-2.5d", "2.5D: C4 in full, a quarter of C2, C3 and C5 (breast tumour, H&E); fill the rest"),
    ("her2st-c-2.5d-ablation", "the same data, two phases: each part of st-dai off in turn, and its backbone"),
    ("her2st-c-2.5d-rates", "the same with 5, 10, 25 and 50 % of those spots, at random"),
    ("her2st-c-2.5d-rotate", "the same with each section once in full"),
    ("paste-breast-2.5d", "2.5D without images: one of four layers of a breast tumour in full"),
    ("dlpfc-2.5d", "2.5D on Visium: cortex section 151673 in full, a quarter of 151674"),
    ("mob-2.5d", "2.5D: mouse olfactory bulb, the middle one of three sections in full"),
    ("mouse-brain-50um", "the same at 50 µm in a mouse brain (Xenium)"),
)


_TASKS = (
    ("expression", "expression:Expression", "expression of unseen sections from their images"),
    ("unseen-genes", "unseen_genes:UnseenGenes", "genes held out by name, zero-shot"),
    ("retrieval", "retrieval:Retrieval", "from image to expression and back among the spots of a section"),
    ("clustering", "clustering:Clustering", "clusters of frozen embeddings against labelled layers"),
    ("same-slide", "slide:SameSlide", "spots held out of the very slide that is trained on"),
    ("imputation", "imputation:Imputation", "hidden spots of one section"),
    ("stack", "stack:StackTask", "hidden spots of a stack of sections"),
    ("finetune", "finetune:Finetune", "what weights gain on a few own spots"),
)


@hookimpl
def stzoo_protocols() -> Iterable[ProtocolSpec]:
    """Offer the shipped protocols."""
    return [
        ProtocolSpec(name, f"stzoo.plugins.benchmarks/protocols/{name}.yaml", summary) for name, summary in _PROTOCOLS
    ]


@hookimpl
def stzoo_tasks() -> Iterable[TaskSpec]:
    """Offer the shipped kinds of protocols."""
    return [TaskSpec(name, f"stzoo.plugins.benchmarks.kinds.{target}", summary) for name, target, summary in _TASKS]
