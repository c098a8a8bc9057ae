"""Putting model, data and task together."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn
from whyadam.data.base import CustomData, DataSettings, Images, Text
from whyadam.errors import UserError
from whyadam.models.base import CustomModel, Head, ModelSettings
from whyadam.tasks import TASKS, Problem, build_problem


class StoredData(DataSettings):
    """Whatever a test puts into ``stored``."""

    kind = "images"
    stored: ClassVar[Images | Text]
    name: Literal["stored"] = "stored"

    def load(self, seed: int) -> Images | Text:
        return self.stored


class LinearSettings(ModelSettings):
    """A linear map of 3 × 4 × 4 images."""

    tasks = frozenset({"classification"})
    name: Literal["linear"] = "linear"

    def build(self, head: Head) -> nn.Module:
        self.check(head)
        return nn.Sequential(nn.Flatten(), nn.Linear(48, head.outputs))


class UsersModel(nn.Module):
    """What a user's file may hold; ``outputs`` is under the user's control."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, outputs), nn.BatchNorm1d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, images: Images) -> StoredData:
    monkeypatch.setattr(StoredData, "stored", images, raising=False)
    return StoredData()


def users(monkeypatch: pytest.MonkeyPatch, **content: Any) -> None:
    """A user's own module, ``users_file``, that holds ``content``."""
    monkeypatch.setitem(sys.modules, "users_file", SimpleNamespace(**content))  # type: ignore[arg-type]


def weights(problem_seed: int, stored: StoredData) -> list[Tensor]:
    problem = build_problem(LinearSettings(), stored, TASKS["classification"](), problem_seed)
    return [weight.detach() for weight in problem.model.parameters()]


def test_the_seed_alone_decides_the_weights(stored: StoredData) -> None:
    first = weights(0, stored)
    torch.rand(17)
    assert all(map(torch.equal, first, weights(0, stored)))
    assert not all(map(torch.equal, first, weights(1, stored)))


def test_building_leaves_the_global_generator_alone(stored: StoredData) -> None:
    before = torch.get_rng_state()
    weights(0, stored)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_problem_gives_the_loss_and_the_examples_of_its_task(stored: StoredData) -> None:
    problem = build_problem(LinearSettings(), stored, TASKS["classification"](), 0)
    assert problem.train is problem.task.train
    assert problem.evaluation is problem.task.evaluation
    batch = problem.train.batch([(0, 0), (0, 1)])
    assert problem.loss(problem.model, batch)[0] == problem.task.loss(problem.model, batch)[0]
    assert problem.loss(problem.model, batch)[1] == 2


def test_the_model_is_told_classes_and_image_size(stored: StoredData) -> None:
    problem = build_problem(LinearSettings(), stored, TASKS["classification"](), 0)
    assert problem.task.head == Head("classification", outputs=5, image_size=4)


def test_a_model_that_cannot_do_the_task_is_one_line(monkeypatch: pytest.MonkeyPatch, text: Text) -> None:
    monkeypatch.setattr(StoredData, "stored", text, raising=False)
    with pytest.raises(
        UserError, match=r"^task\.name: the model linear cannot do causal_lm; it can do classification$"
    ):
        build_problem(LinearSettings(), StoredData(), TASKS["causal_lm"](), 0)


def test_data_of_another_kind_is_one_line(monkeypatch: pytest.MonkeyPatch, text: Text) -> None:
    users(monkeypatch, data=lambda seed: text)
    data = CustomData(name="users_file:data")
    with pytest.raises(UserError, match=r"^task\.name: classification needs images, not Text$"):
        build_problem(LinearSettings(), data, TASKS["classification"](), 0)


def test_a_users_model_is_used_and_left_as_it_was(stored: StoredData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying it on one example must change neither its mode nor its BatchNorm statistics."""
    users(monkeypatch, Model=UsersModel)
    settings = CustomModel.model_validate({"name": "users_file:Model", "outputs": 5})
    model = build_problem(settings, stored, TASKS["classification"](), 0).model
    assert isinstance(model, UsersModel)
    assert model.training
    assert torch.equal(model.layers[2].running_mean, torch.zeros(5))


def test_a_users_model_with_too_few_outputs_is_one_line(stored: StoredData, monkeypatch: pytest.MonkeyPatch) -> None:
    users(monkeypatch, Model=UsersModel)
    settings = CustomModel.model_validate({"name": "users_file:Model", "outputs": 4})
    with pytest.raises(UserError, match=r"^the model cannot do classification .*\[1, 4\].* needs \[1, 5\]$"):
        build_problem(settings, stored, TASKS["classification"](), 0)


def test_a_users_model_that_takes_other_inputs_is_one_line(monkeypatch: pytest.MonkeyPatch, text: Text) -> None:
    """An image model on text: PyTorch's message, but as the answer to a wrong config."""
    monkeypatch.setattr(StoredData, "stored", text, raising=False)
    users(monkeypatch, Model=UsersModel)
    settings = CustomModel.model_validate({"name": "users_file:Model", "outputs": 40})
    with pytest.raises(UserError, match=r"^the model cannot do causal_lm on this data: .*input_ids") as caught:
        build_problem(settings, StoredData(), TASKS["causal_lm"](), 0)
    assert "\n" not in str(caught.value)


def test_a_users_data_is_tried_on_the_model(
    stored: StoredData, monkeypatch: pytest.MonkeyPatch, images: Images
) -> None:
    """A label beyond the user's own classes would abort a process on a GPU."""
    images.train.labels[0] = 4
    users(monkeypatch, data=lambda seed: replace(images, classes=("a", "b")))
    data = CustomData(name="users_file:data")
    with pytest.raises(UserError, match=r"^the model cannot do classification on this data: "):
        build_problem(LinearSettings(), data, TASKS["classification"](), 0)


def test_tasks_are_listed_without_torch() -> None:
    """A config is checked and listed in a fraction of a second only without PyTorch."""
    heavy = ("torch", "transformers", "tokenizers", "torchmetrics", "numpy")
    program = (
        "import sys, whyadam.tasks as tasks; print(*tasks.TASKS); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["classification causal_lm masked_lm question_answering quadratic", "[]"]


def test_every_task_says_what_it_is() -> None:
    for name, settings in TASKS.items():
        assert settings.registry_name() == settings().name == name
        assert settings.summary().endswith(".")
        assert settings.kind in {"images", "text", "questions", "quadratics"}


def test_the_digest_of_a_problem_is_that_of_its_data(stored: StoredData, images: Images) -> None:
    """Its own where it knows its data, else that of what its task yields."""
    problem = build_problem(LinearSettings(), stored, TASKS["classification"](), 0)
    assert len(problem.data_digest) == 32
    assert problem.data_digest == build_problem(LinearSettings(), stored, TASKS["classification"](), 1).data_digest
    alone = Problem(problem.model, problem.task).data_digest
    images.evaluation.labels[16] += 1  # type: ignore[attr-defined]
    changed = build_problem(LinearSettings(), stored, TASKS["classification"](), 0)
    assert changed.data_digest != problem.data_digest
    assert Problem(changed.model, changed.task).data_digest != alone
