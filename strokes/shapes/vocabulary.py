"""The tokenizer of the embedded model: a word-level ``tokenizer.json`` over the closed vocabulary of the shapes world."""

from __future__ import annotations

from pathlib import Path

from .language import vocabulary_words

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<unk>")
TAGS = ("<ins>", "</ins>", "<des>", "</des>", "<refine>", "</refine>")
WORDS = (
    *("please", "create", "image", "step-by-step", ":", ".", ","),
    *("add", "change", "move", "remove", "swap", "paint", "with", "again"),
    *("step", "picture", "prompt", "is", "correct", "wrong", "nothing", "missing", "rest", "comes", "later"),
    *("colour", "shape", "place", "too", "many", "not", "clear", "does", "match"),
)


def write_tokenizer(path: Path) -> int:
    """Write the ``tokenizer.json`` and return the number of tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    words = [*SPECIAL, *TAGS, *WORDS, *vocabulary_words()]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    token = Regex(r"</?[a-z]+>|[a-z]+(?:-[a-z]+)*|[^\s]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(token, "removed", invert=True)
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.add_special_tokens(list(SPECIAL[:-1]))
    tokenizer.save(str(path))
    return len(vocab)
