"""Wrong keys and impossible combinations: each is one line that begins with the key to change."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from whyadam.configs.load import ConfigError, parse_experiment


def changed(config: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """The config with some keys of some sections changed, or with a whole key replaced."""
    config = deepcopy(config)
    for section, change in sections.items():
        if isinstance(change, dict) and "name" not in change and isinstance(config.get(section), dict):
            config[section] |= change
        else:
            config[section] = change
    return config


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"optimizer": {"momentun": 0.9}}, "optimizer.momentun: unknown key; did you mean momentum?"),
        ({"optimzer": {}}, "optimzer: unknown key; did you mean optimizer?"),
        ({"optimizer": {"name": "adma", "lr": 1}}, "optimizer.name: adma is not known; did you mean adam"),
        ({"model": {"name": "resnet81"}}, "model.name: resnet81 is not known; did you mean resnet18?"),
        ({"optimizer": {"lr": 0.1, "name": None}}, "optimizer.name: missing"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr: should be a valid number"),
        ({"optimizer": {"lr": -1}}, "optimizer.lr: should be greater than 0, got -1"),
        ({"optimizer": {"lr": float("nan")}}, "optimizer.lr: should be a finite number"),
        ({"optimizer": {"lr": 1e300}}, "optimizer.lr: should be less than or equal to 1e+30, got 1e+300"),
        ({"optimizer": {"weight_decay": 1e39}}, "optimizer.weight_decay: should be less than or equal to 1e+30"),
        (
            {"optimizer": {"name": "torch.optim:SGD", "lr": 0.1, "weight_decay": 1e300}},
            "optimizer: weight_decay should be at most 1e+30, got 1e+300",
        ),
        (
            {"optimizer": {"name": "torch.optim:SGD", "lr": 0.1, "groups": [{"params": ["*"], "weight_decay": 1e39}]}},
            "optimizer: weight_decay should be at most 1e+30, got 1e+39",
        ),
        ({"optimizer": 3}, "optimizer: expected a group of keys with a name"),
        ({"training": {"batch_size": "all"}}, "training.batch_size: "),
        ({"training": {"steps": 0}}, "training.steps: should be greater than 0, got 0"),
        ({"training": {"epochs": 2}}, "training: give either training.steps or training.epochs"),
        (
            {"training": {"precision": "fp23"}},
            "training.precision: 'fp23' is not one of fp32, bf16; did you mean fp32?",
        ),
        ({"training": {"batch_size": "full"}}, "training.micro_batch_size: "),
        ({"training": {"micro_batch_size": 99}}, "training.micro_batch_size: 99 is more than training.batch_size, 16"),
        ({"schedule": {"name": "cosine", "warmup_steps": 7}}, "schedule.warmup_steps: 7 is more than"),
        ({"task": {"name": "causal_lm"}}, "task.name: causal_lm needs text, but data.name mnist5k gives images"),
        ({"name": "../escape"}, "name: "),
        ({"seed": -1}, "seed: should be greater than or equal to 0"),
        ({"model": {"name": "vgg16"}}, "model.head: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_key(
    mlp_config: dict[str, Any], sections: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_experiment(changed(mlp_config, **sections), "config.yaml")
    line = str(caught.value)
    assert line.startswith(f"config.yaml: {expected}"), line
    assert "\n" not in line


def test_a_model_that_cannot_do_the_task_is_refused(gpt2_config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"task\.name: the model gpt2_nano cannot do masked_lm"):
        parse_experiment(changed(gpt2_config, task={"name": "masked_lm"}), "config.yaml")


def test_a_block_longer_than_the_context_is_refused(gpt2_config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.block_size: 512 tokens are more than the context of gpt2_nano, 256"):
        parse_experiment(changed(gpt2_config, data={"block_size": 512}), "config.yaml")


def test_several_problems_are_counted_and_all_kept(mlp_config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_experiment(changed(mlp_config, seed=-1, training={"steps": 0}), "config.yaml")
    assert len(caught.value.problems) == 2
    assert "(and 1 more" in str(caught.value)


def test_a_users_own_classes_are_taken_by_their_path(mlp_config: dict[str, Any]) -> None:
    config = changed(mlp_config, optimizer={"name": "torch.optim:RMSprop", "lr": 0.01, "alpha": 0.9})
    assert parse_experiment(config, "test").optimizer.arguments == {"lr": 0.01, "alpha": 0.9}
