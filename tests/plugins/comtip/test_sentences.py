"""The paper's text branch: its tokens, and that reading beginnings once changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stzoo.core.errors import ConfigError, DataError, GeneError, WeightsError
from stzoo.core.nn.clip_text import ClipText
from stzoo.core.nn.pretrained import clip_towers, read_checkpoint, read_hints
from stzoo.core.weights.repository import restore_module
from stzoo.plugins.comtip import sentences
from stzoo.plugins.comtip.config import Text, TextConfig, Values
from stzoo.plugins.comtip.sentences import (
    MAX_SYMBOL,
    SentenceTokenizer,
    SentenceTower,
    encode_sentences,
    load_sentence_tokenizer,
)
from stzoo.plugins.comtip.text_tower import GeneInputs
from stzoo.plugins.comtip.vocabulary import learn_sentence_tokenizer
from stzoo.plugins.comtip.weights import clip_tokenizer
from torch import Tensor

GENES = ["KRT5", "KRT8", "COL1A1", "HLA-DRB1", "GAPDH", "RP11-34P13.7", "B2M"]
KNOWN = {"KRT5": 0, "COL1A1": 1, "GAPDH": 2}
OPTIONS: dict[str, Any] = {"kind": Text.sentences, "values": Values.affine, "width": 24, "depth": 2, "heads": 3}


@pytest.fixture(scope="module")
def tokenizer() -> SentenceTokenizer:
    return learn_sentence_tokenizer(GENES[:5], 80)


def tower(tokenizer: SentenceTokenizer, **options: Any) -> SentenceTower:
    torch.manual_seed(0)
    made = SentenceTower(TextConfig(**{**OPTIONS, **options}), len(KNOWN), tokenizer.size, tokenizer.suffix, 10)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))  # fresh weights are so small that little counts
    return made.eval()


def expression(b: int = 5, g: int = len(GENES)) -> Tensor:
    return torch.rand(b, g, generator=torch.Generator().manual_seed(3)) * 6


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def gradients(made: SentenceTower, out: Tensor) -> dict[str, Tensor]:
    made.zero_grad()
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).mean().backward()
    return {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunks", [(16, 64), (2, 3)], ids=["at once", "in chunks"])
@pytest.mark.parametrize("clip", [False, True])
def test_beginnings_read_once_give_what_whole_sentences_give(
    tokenizer: SentenceTokenizer, clip: bool, chunks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentences, "SAMPLES", chunks[0])
    monkeypatch.setattr(sentences, "GENES", chunks[1])
    made, inputs, values = tower(tokenizer, clip=clip), encode_sentences(tokenizer, GENES, KNOWN), expression()
    assert len(set((inputs.tokens != 0).sum(1).tolist())) > 2, "beginnings should differ in length"
    code = made.encode_genes(inputs)
    naive, alone, pooled = (
        made.encode_naively(inputs, values),
        made.encode_pairs(code, values),
        made.encode_profiles(code, values),
    )
    assert naive.shape == (5, len(GENES), 10)
    assert (naive[0] - naive[1]).abs().amin(0).max() > 1e-3, "values should count"
    close(alone, naive)
    close(pooled, naive.mean(1))
    want = gradients(made, naive)
    assert set(want) == {name for name, _ in made.named_parameters()}
    assert want["genes.weight"].abs().sum() > 0
    assert want["value.weight"].abs().sum() > 0
    for name, grad in gradients(made, made.encode_pairs(made.encode_genes(inputs), values)).items():
        torch.testing.assert_close(grad, want[name], atol=1e-5, rtol=1e-5, msg=name)
    want = gradients(made, made.encode_naively(inputs, values).mean(1))
    for name, grad in gradients(made, made.encode_profiles(made.encode_genes(inputs), values)).items():
        torch.testing.assert_close(grad, want[name], atol=1e-5, rtol=1e-5, msg=name)


def test_padding_of_whole_sentences_changes_nothing(tokenizer: SentenceTokenizer) -> None:
    made, inputs = tower(tokenizer, clip=True), encode_sentences(tokenizer, GENES, KNOWN)
    close(made.encode_naively(inputs, expression(), length=77), made.encode_naively(inputs, expression()))
    with pytest.raises(DataError, match="78 tokens"):
        made.encode_naively(inputs, expression(), length=78)


def test_missing_values_are_left_out_whatever_they_are(tokenizer: SentenceTokenizer) -> None:
    made, inputs, values = tower(tokenizer), encode_sentences(tokenizer, GENES, KNOWN), expression()
    code = made.encode_genes(inputs)
    missing = torch.zeros(5, len(GENES), dtype=torch.bool)
    missing[0, 2:], missing[1, 0], missing[4] = True, True, True
    z = made.encode_profiles(code, values.masked_fill(missing, torch.nan), missing)
    each = made.encode_pairs(code, values)
    close(z[0], each[0, :2].mean(0))
    close(z[1], each[1, 1:].mean(0))
    close(z[2], each[2].mean(0))
    assert torch.equal(z[4], torch.zeros(10))


def test_some_of_the_genes_in_any_order(tokenizer: SentenceTokenizer) -> None:
    made, values = tower(tokenizer), expression()
    code = made.encode_genes(encode_sentences(tokenizer, GENES, KNOWN))
    rows = torch.tensor([4, 0, 3])
    assert len(code[rows]) == 3
    close(made.encode_pairs(code[rows], values[:, rows]), made.encode_pairs(code, values)[:, rows])


def test_the_gene_table_is_for_known_genes_and_their_symbols_only(tokenizer: SentenceTokenizer) -> None:
    made, inputs, values = tower(tokenizer), encode_sentences(tokenizer, GENES, KNOWN), expression()
    before = made.encode_pairs(made.encode_genes(inputs), values)
    with torch.no_grad():
        assert made.genes is not None
        made.genes.weight[KNOWN["COL1A1"]] += torch.randn(24)
    changed = (made.encode_pairs(made.encode_genes(inputs), values) - before).abs().amax((0, 2)) > 1e-4
    assert [gene for gene, is_changed in zip(GENES, changed.tolist(), strict=True) if is_changed] == ["COL1A1"]
    none = GeneInputs(inputs.tokens, inputs.index, torch.zeros_like(inputs.symbol), inputs.described)
    unseen = GeneInputs(inputs.tokens, torch.full_like(inputs.index, -1), inputs.symbol, inputs.described)
    close(made.encode_pairs(made.encode_genes(none), values), made.encode_pairs(made.encode_genes(unseen), values))
    assert tower(tokenizer, gene_table=False).genes is None


def test_without_value_embedding_every_value_reads_alike(tokenizer: SentenceTokenizer) -> None:
    made = tower(tokenizer, values=Values.none)
    inputs = encode_sentences(tokenizer, GENES, KNOWN)
    each = made.encode_pairs(made.encode_genes(inputs), expression())
    close(each, each[:1].expand_as(each))
    close(each, made.encode_naively(inputs, expression()))


def test_values_in_bins_are_not_the_papers(tokenizer: SentenceTokenizer) -> None:
    with pytest.raises(ConfigError, match=r"text\.values is 'bins'"):
        tower(tokenizer, values=Values.bins)


def test_training_keeps_no_more_for_more_samples(tokenizer: SentenceTokenizer) -> None:
    """What backward needs of the ends of sentences is made again chunk by chunk, so it does not grow with them."""
    made = tower(tokenizer)
    inputs = encode_sentences(tokenizer, GENES, KNOWN)

    def kept(b: int) -> int:
        sizes: list[int] = []

        def note(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        code = made.encode_genes(inputs)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            made.encode_profiles(code, expression(b))
        return sum(sizes)

    once, more = kept(sentences.SAMPLES), kept(8 * sentences.SAMPLES)
    assert more < once


def test_state_dict_holds_no_numbers_of_tokens(tokenizer: SentenceTokenizer) -> None:
    assert all(tensor.is_floating_point() for tensor in tower(tokenizer).state_dict().values())


# Tokens


def test_zero_is_padding_and_the_symbol_is_marked(tokenizer: SentenceTokenizer) -> None:
    inputs = encode_sentences(tokenizer, GENES, KNOWN)
    words = [[tokenizer.tokenizer.id_to_token(i) for i in row[row != 0].tolist()] for row in inputs.tokens]
    for gene, row, real, mark in zip(GENES, words, inputs.tokens != 0, inputs.symbol, strict=True):
        symbol = mark[real].tolist()
        assert row[:5] == ["[START]", "[The]", "[expression]", "[value]", "[of]"]
        assert row[-1] == "[is]"
        assert "".join(word for word, marked in zip(row, symbol, strict=True) if marked) == gene
        assert symbol == [False] * 5 + [True] * (len(row) - 6) + [False]
        assert real.tolist() == sorted(real.tolist(), reverse=True), "padding stands after the prefix"
    assert inputs.index.tolist() == [0, -1, 1, -1, 2, -1, -1]
    assert inputs.described.shape == (len(GENES), 0)
    assert [tokenizer.tokenizer.id_to_token(i) for i in tokenizer.suffix.tolist()] == ["[VALUE]", "[.]", "[END]"]


def test_a_learned_tokenizer_survives_its_file(tokenizer: SentenceTokenizer) -> None:
    again = load_sentence_tokenizer(tokenizer.dumps())
    assert (again.size, again.before, again.ending) == (tokenizer.size, tokenizer.before, tokenizer.ending)
    got, want = (encode_sentences(t, ["krt8 ", "ZZZ3", "µ"], {}) for t in (again, tokenizer))
    assert torch.equal(got.tokens, want.tokens)
    assert int(want.tokens.max()) < tokenizer.size
    assert torch.equal(encode_sentences(tokenizer, ["KRT8"], {}).tokens[0, :7], want.tokens[0, :7])


def test_long_and_blank_symbols(tokenizer: SentenceTokenizer) -> None:
    inputs = encode_sentences(tokenizer, ["QWXZ" * 30], {})
    assert int(inputs.symbol.sum()) == MAX_SYMBOL
    code = tower(tokenizer).encode_genes(inputs)
    assert tower(tokenizer).encode_pairs(code, torch.ones(1, 1)).isfinite().all()
    for blank in ("", "  "):
        with pytest.raises(GeneError, match="no gene symbol"):
            encode_sentences(tokenizer, ["KRT5", blank], {})


def test_what_is_no_tokenizer_is_refused(tokenizer: SentenceTokenizer) -> None:
    with pytest.raises(WeightsError, match="can not be read"):
        load_sentence_tokenizer(b"{}")
    with pytest.raises(WeightsError, match="no token '<|startoftext|>'".replace("|", r"\|")):
        load_sentence_tokenizer(tokenizer.dumps().replace(b"[START]", b"[BEGIN]"))


def write_clip_vocabulary(folder: Path) -> None:
    """A small vocabulary in CLIP's form, learned on a few words."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    letters = sorted(ByteLevel.alphabet())
    trainer = BpeTrainer(vocab_size=600, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False)
    words = ["expression"] * 9 + ["value"] * 9 + ["the"] * 9 + ["is"] * 9 + ["of"] * 9 + ["krt"] * 5 + ["col", "hla"]
    learner.train_from_iterator(words, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    singles = [letter for letter in letters if letter != "!"]
    tokens = ["!", *singles, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(dict.fromkeys(tokens))}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small CLIP as transformers writes it, with its tokenizer."""
    transformers = pytest.importorskip("transformers", minversion="5")
    folder = tmp_path_factory.mktemp("clip")
    write_clip_vocabulary(folder)
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 256}
    text = {**shape, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    config = transformers.CLIPConfig(
        vision_config={**shape, "image_size": 32, "patch_size": 16}, text_config=text, projection_dim=10
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config)
    with torch.no_grad():
        for parameter in model.text_model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


SYMBOLS = ["KRT5", "HLA-DRB1", "RP11-34P13.7", "C1orf112", "µ1!", "MT-CO2"]


def test_clips_tokenizer_reads_the_template_as_transformers_does(clip_folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", minversion="5")
    theirs = transformers.CLIPTokenizer.from_pretrained(clip_folder)
    write_clip_vocabulary(tmp_path)
    assert (clip_folder / "tokenizer.json").is_file()
    from_file, from_merges = clip_tokenizer(clip_folder), clip_tokenizer(tmp_path)
    for ours in (from_file, from_merges, load_sentence_tokenizer(from_merges.dumps())):
        inputs = encode_sentences(ours, SYMBOLS, {})
        for gene, row, mark in zip(SYMBOLS, inputs.tokens, inputs.symbol, strict=True):
            want = theirs(f"The expression value of {gene} is 0.")["input_ids"]  # 0 is the placeholder
            got = [*row[: len(want) - 3].tolist(), *ours.ending]
            assert got == want
            assert not row[len(want) - 3 :].any()
            assert row[mark].tolist() == theirs(gene)["input_ids"][1:-1]


def test_a_symbol_with_token_0_in_it_is_not_cut(clip_folder: Path) -> None:
    ours = clip_tokenizer(clip_folder)
    gene = "µ1!!a"
    inputs = encode_sentences(ours, [gene, "KRT5"], {})
    assert 0 in inputs.tokens[0][inputs.symbol[0]]
    made = tower(ours, clip=True)
    values = expression(3, 2)
    close(made.encode_pairs(made.encode_genes(inputs), values), made.encode_naively(inputs, values))
    assert made.encode_genes(inputs).length.tolist() == [len(ours.before) + len(ours.symbol(gene)) + 1, 8]


def test_from_a_checkpoint_sentences_are_clips_own(clip_folder: Path) -> None:
    transformers = pytest.importorskip("transformers", minversion="5")
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    theirs = transformers.CLIPTokenizer.from_pretrained(clip_folder)
    parts = clip_towers(read_checkpoint(clip_folder), read_hints(clip_folder))
    ours = clip_tokenizer(clip_folder)
    config = TextConfig(kind=Text.sentences, values=Values.affine, width=64, depth=2, heads=1, clip=True)
    made = SentenceTower(config, len(KNOWN), ours.size, ours.suffix, 10).eval()
    restore_module(made.text, parts.text)
    assert isinstance(made.text, ClipText)
    with torch.no_grad():
        made.projection.weight.copy_(parts.text_projection)
        got = made.encode_pairs(made.encode_genes(encode_sentences(ours, GENES, KNOWN)), torch.zeros(1, len(GENES)))[0]
        batch = theirs([f"The expression value of {gene} is 0." for gene in GENES], padding=True, return_tensors="pt")
        want = model.get_text_features(**batch).pooler_output
    close(got, want)


def test_a_checkpoint_without_its_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="the checkpoint has no tokenizer"):
        clip_tokenizer(tmp_path)
    write_clip_vocabulary(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\nnot in vocabulary\n")
    with pytest.raises(WeightsError, match="can not be read"):
        clip_tokenizer(tmp_path)
