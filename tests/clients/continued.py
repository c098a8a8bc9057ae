"""Goes on with each optimizer of a file in a process of its own: python continued.py SAVED CONTINUED."""

from __future__ import annotations

import sys

import torch
from conftest import RULES, make_network, train_by_hand

saved = torch.load(sys.argv[1], weights_only=True)
weights = {}
for name, (model_state, optimizer_state) in saved["rules"].items():
    model = make_network()
    model.load_state_dict(model_state)
    optimizer = RULES[name](model.parameters())
    optimizer.load_state_dict(optimizer_state)
    weights[name] = train_by_hand(model, optimizer, saved["batches"]).state_dict()
torch.save(weights, sys.argv[2])
