"""Training a vocabulary; the same text always gives the same one."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ..errors import UserError
from .pieces import pieces
from .text import SPECIAL_TOKENS, Documents, TokenizedSettings

TRAINING_CHARACTERS = 100_000_000
"""A vocabulary is trained on that much of the training part, from its start."""


def train_tokenizer(settings: TokenizedSettings, documents: Documents) -> Tokenizer:
    """A tokenizer of ``settings.vocab_size`` entries at most, the special tokens first.

    Raises:
        UserError: there is no text, or it has more characters than the vocabulary has room for.
    """
    texts = _first_characters(documents)
    if not texts:
        raise UserError(f"{documents.source}: there is no text to train a tokenizer on")
    train = {"char": _train_char, "bpe": _train_bpe, "wordpiece": _train_wordpiece}[settings.tokenizer]
    return train(texts, settings.vocab_size)


def _first_characters(documents: Documents) -> list[str]:
    texts: list[str] = []
    characters = 0
    for document in documents.read():
        for piece in pieces(document):
            if characters >= TRAINING_CHARACTERS:
                return texts
            texts.append(piece)
            characters += len(piece)
    return texts


def _train_char(texts: list[str], vocab_size: int) -> Tokenizer:
    """One token a character: the most frequent ones, where there are more than the vocabulary has room for."""
    counts = Counter(chain.from_iterable(texts))
    frequent = sorted(counts, key=lambda character: (-counts[character], character))
    entries = [*SPECIAL_TOKENS, *sorted(frequent[: vocab_size - len(SPECIAL_TOKENS)])]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _train_bpe(texts: list[str], vocab_size: int) -> Tokenizer:
    """Byte pairs, merged by frequency (Radford et al. 2019, section 2.2)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _train_wordpiece(texts: list[str], vocab_size: int) -> Tokenizer:
    """Pieces of words in lower case, without accents (Devlin et al. 2019, section 3)."""
    normalizer = normalizers.BertNormalizer()
    characters = sorted(set(chain.from_iterable(map(normalizer.normalize_str, texts))) - {" "})
    # The trainer numbers the inner pieces ("##a") in the order of a hash table, another one in each process, and breaks
    # ties by number. Listing them in advance fixes their numbers.
    listed = [*SPECIAL_TOKENS, *(f"##{character}" for character in characters)]
    needed = len(listed) + len(characters)
    if needed > vocab_size:
        raise UserError(f"data.vocab_size: {vocab_size} is too small, the characters of the text alone take {needed}")

    trained = _wordpiece(models.WordPiece(unk_token="[UNK]"), normalizer)
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=listed, show_progress=False)
    trained.train_from_iterator(texts, trainer)
    tokenizer = _wordpiece(models.WordPiece(vocab=trained.get_vocab(), unk_token="[UNK]"), normalizer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _wordpiece(model: models.WordPiece, normalizer: normalizers.Normalizer) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer
