"""Models, data and losses that no registry knows, right and wrong ones: a user's own module."""

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(5)
IMAGES = TensorDataset(torch.randn(64, 3, 32, 32), torch.arange(64) % 4)
TOKENS = torch.randint(20, (64, 9))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.Dropout(0.5), nn.Linear(4, 4))

    def forward(self, images):
        return self.layers(images)


def images():
    return DataLoader(IMAGES, batch_size=4, shuffle=True)


def image_loss(model, batch):
    images, labels = batch
    return cross_entropy(model(images), labels, reduction="sum"), len(labels)


def distilbert():
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(
        vocab_size=20, max_position_embeddings=16, dim=8, hidden_dim=16, n_layers=2, n_heads=2, num_labels=3
    )
    return DistilBertForSequenceClassification(config)


def sentences():
    for tokens in TOKENS.split(4):
        yield {"input_ids": tokens, "labels": tokens[:, 0] % 3}


def sentence_loss(model, batch):
    outputs = model(**batch)
    return outputs.loss * len(batch["labels"]), len(batch["labels"])


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 20)
        self.lstm = nn.LSTM(8, 8, num_layers=2, batch_first=True)

    def forward(self, tokens):
        return self.head(self.lstm(self.embedding(tokens))[0])


tokens = TOKENS.split(4)


def token_loss(model, tokens):
    logits, labels = model(tokens[:, :-1]), tokens[:, 1:]
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum"), labels.numel()


# Mistakes


def no_module():
    return {"weights": 1}


def broken():
    raise RuntimeError("no such file")


def few():
    return [TOKENS[:4], TOKENS[4:8]]


def nothing():
    return []


once = iter(TOKENS.split(4))


def mean_of_each(model, tokens):
    return model(tokens).mean(dim=(1, 2)), len(tokens)


def loss_alone(model, tokens):
    return model(tokens).sum()


def infinite(model, tokens):
    return model(tokens).sum() / 0, len(tokens)


def detached(model, tokens):
    return model(tokens).sum().detach(), len(tokens)


def no_terms(model, tokens):
    return model(tokens).sum(), 0


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 20)

    def forward(self, tokens):
        x = self.embedding(tokens)[:, None]
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return self.head(scaled_dot_product_attention(x, x, x)[:, 0])


def linear():
    return nn.Sequential(nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 4))


def even():
    return _shapes([8] * 16)


def last_is_smaller():
    return _shapes([8] * 16 + [1])


def smaller_between():
    return _shapes([8, 3, *[8] * 8, 2, *[8] * 7, 5])


def all_of_other_sizes():
    return _shapes(range(2, 18))


def _shapes(sizes):
    """Batches of these sizes; those of 8 are the same, however many others there are between."""
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        drawn = generator if size == 8 else torch.Generator().manual_seed(size)
        yield torch.randn(size, 20, generator=drawn), torch.arange(size) % 4
