"""Which labels weigh more: the token that a word is inside a text, in any vocabulary."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from strokes.bagel.network.config import SpecialTokens
from strokes.errors import StrokesError
from strokes.recipes.run import EMPHASISED
from strokes.training.train import label_weights, token_of


@pytest.fixture
def bpe():
    """Byte-level like Qwen's: "go" and " go" are two tokens, " ox" is none."""
    vocab = {token: i for i, token in enumerate(["g", "o", "x", "Ġ", "go", "Ġgo", "Ġo", "<end>"])}
    tokenizer = Tokenizer(models.BPE(vocab, [("g", "o"), ("Ġ", "go"), ("Ġ", "o")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def weights(tokenizer, *words):
    eos = tokenizer.get_vocab_size() - 1
    return label_weights(tokenizer, SpecialTokens(0, eos, 0, 0), words)


def test_the_token_that_is_written_inside_a_text_is_weighted(bpe):
    assert bpe.encode("go go").tokens == ["go", "Ġgo"]
    found = weights(bpe, "go")
    assert found[bpe.token_to_id("Ġgo")] == 3.0 and found[bpe.token_to_id("go")] == 1.0
    assert found.tolist().count(1.0) == len(found) - 2


def test_a_word_of_several_tokens_is_refused_by_name(bpe):
    with pytest.raises(StrokesError, match=r"'ox' as 2 tokens \(' o' 'x'\)"):
        weights(bpe, "go", "ox")


@pytest.mark.parametrize("word", ["y", "yy"])
def test_a_word_that_the_vocabulary_lacks_is_refused_by_name(bpe, word):
    with pytest.raises(StrokesError, match=f"lacks the word '{word}'"):
        token_of(bpe, word)


def test_the_embedded_vocabulary_weights_its_verdicts_alone(toy_checkpoint):
    tokenizer, special = toy_checkpoint.tokenizer, toy_checkpoint.special
    found = label_weights(tokenizer, special, EMPHASISED)
    ids = [tokenizer.token_to_id(word) for word in EMPHASISED]
    assert [found[i] for i in ids] == [3.0] * 4 and found[special.eos] == 2.0
    assert found.tolist().count(1.0) == len(found) - 5
    with pytest.raises(StrokesError, match="lacks the word 'elephant'"):
        label_weights(tokenizer, special, ("correct", "elephant"))
