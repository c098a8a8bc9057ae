"""What a hand-written loop of torch may do with an optimizer: clip, scale, average, hook, add groups, refuse."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from whyadam.optimizers import ACClip, GClip


def groups(model: nn.Module) -> list[dict]:
    return [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.003}]


def test_clip_grad_norm_comes_before_the_rule(make, network, batches, loss_of, assert_same_weights) -> None:
    """Against gradients that are scaled here; a rule that kept older gradients would not see them."""
    clipped, scaled = network(), network()
    for model in (clipped, scaled):
        optimizer = make(model.parameters())
        for batch in batches:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            if model is clipped:
                nn.utils.clip_grad_norm_(model.parameters(), 0.05)
            else:
                gradients = [parameter.grad for parameter in model.parameters()]
                norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
                assert norm > 0.05
                for gradient in gradients:
                    gradient *= 0.05 / norm
            optimizer.step()
    assert_same_weights(clipped, scaled, 1e-4)


def test_a_scaler_unscales_and_leaves_a_step_out(make, network, batches, loss_of, by_hand, assert_same_weights) -> None:
    """The scale is a power of 2 and changes no bit; a gradient that overflows moves neither weights nor state."""
    model = network()
    optimizer, scaler = make(model.parameters()), torch.amp.GradScaler("cpu", init_scale=1024.0)
    taken = []
    optimizer.register_step_post_hook(lambda *_: taken.append(1))
    for number, batch in enumerate(batches):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        if number == 2:
            model[0].weight.grad[0, 0] = torch.inf
            before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
        if number == 2:
            torch.testing.assert_close((model.state_dict(), optimizer.state_dict()["state"]), before, rtol=0, atol=0)
            assert scaler.get_scale() == 512.0
    assert len(taken) == 5
    expected = network()
    by_hand(expected, make(expected.parameters()), [*batches[:2], *batches[3:]], max_norm=0.5)
    assert_same_weights(model, expected)


@pytest.mark.parametrize("make", ["gclip", "acclip", "acclip, fused"], indirect=True)
def test_autocast_with_a_scaler(make, network, batches) -> None:
    """Half-precision activations: the weights and the state stay in float32, and every step is taken."""
    model = network()
    optimizer, scaler = make(model.parameters()), torch.amp.GradScaler("cpu", init_scale=64.0)
    expected = network()
    reference = make(expected.parameters())
    for batch in batches:
        for network_, optimizer_, scale in ((model, optimizer, 64.0), (expected, reference, 1.0)):
            with torch.autocast("cpu", torch.float16):
                logits = network_(batch["inputs"])
            assert logits.dtype == torch.float16
            loss = nn.functional.cross_entropy(logits.float(), batch["labels"])
            optimizer_.zero_grad()
            if scale > 1:
                scaler.scale(loss).backward()
                scaler.step(optimizer_)
                scaler.update()
            else:
                loss.backward()
                optimizer_.step()
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)
    assert all(value.dtype == torch.float32 for state in optimizer.state.values() for value in state.values())


def test_an_averaged_model_averages_our_steps(make, network, batches, loss_of) -> None:
    """Catches weights that are replaced instead of changed in place: the average would stay at the start."""
    model = network()
    averaged, optimizer, passed = AveragedModel(model), make(model.parameters()), []
    for batch in batches:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
        averaged.update_parameters(model)
        passed.append(copy.deepcopy(model.state_dict()))
    for name, weight in averaged.module.state_dict().items():
        mean = torch.stack([weights[name] for weights in passed]).mean(0)
        torch.testing.assert_close(weight, mean, rtol=1e-5, atol=1e-6)


def test_groups_have_their_own_learning_rate(make, network, batches, loss_of, assert_same_weights) -> None:
    """A group added later equals one that was there; a frozen layer would show one that is forgotten."""
    together, added = network(), network()
    optimizers = make(groups(together)), make([groups(added)[0]])
    optimizers[1].add_param_group(groups(added)[1])
    for model, optimizer in zip((together, added), optimizers, strict=True):
        for batch in batches:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            before = model[2].weight.detach().clone()
            optimizer.step()
            moved = (model[2].weight.detach() - before).norm()
        step = optimizer.telemetry()["update_norm"]
        assert 0 < moved < step
    assert_same_weights(together, added)


def test_gclip_takes_one_norm_over_all_groups() -> None:
    one, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    one.grad, other.grad = torch.tensor([3.0]), torch.tensor([4.0])
    GClip([{"params": [one]}, {"params": [other], "clip": 2.0, "lr": 10.0}], lr=1.0, clip=1.0).step()
    assert (one.item(), other.item()) == (pytest.approx(-3 / 5), pytest.approx(-10 * 4 * 2 / 5))


def test_named_parameters_keep_their_names(make, network) -> None:
    model = network()
    optimizer = make(model.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in model.named_parameters()]
    other = make(network().named_parameters())
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["param_names"] == optimizer.param_groups[0]["param_names"]


def test_hooks_run_around_every_step(make, network, batches, by_hand) -> None:
    model = network()
    optimizer, seen = make(model.parameters()), []
    optimizer.register_step_pre_hook(lambda *_: seen.append(("before", model[0].weight.detach().clone())))
    optimizer.register_step_post_hook(lambda *_: seen.append(("after", model[0].weight.detach().clone())))
    by_hand(model, optimizer, batches)
    assert [name for name, _ in seen] == ["before", "after"] * len(batches)
    assert all(not torch.equal(seen[i][1], seen[i + 1][1]) for i in range(0, len(seen), 2))
    assert all(torch.equal(seen[i][1], seen[i + 1][1]) for i in range(1, len(seen) - 1, 2))


def test_hooks_of_loading_have_their_way(make, network, batches, by_hand) -> None:
    """Catches a state that is read past the user's hooks: what one changes would come back."""
    trained, fresh = network(), network()
    optimizer, other = make(trained.parameters(), weight_decay=0.1), make(fresh.bfloat16().parameters())
    by_hand(trained, optimizer, batches)

    def halved(_, given):
        state = {key: {name: value / 2 for name, value in of.items()} for key, of in given["state"].items()}
        return {**given, "state": state}

    def doubled(loaded):
        for state in loaded.state.values():
            for value in state.values():
                value.mul_(4)

    other.register_load_state_dict_pre_hook(halved)
    other.register_load_state_dict_post_hook(doubled)
    other.load_state_dict(optimizer.state_dict())
    for one, two in zip(trained.parameters(), fresh.parameters(), strict=True):
        for name, value in optimizer.state[one].items():
            assert other.state[two][name].dtype == torch.float32
            assert torch.equal(other.state[two][name], value * 2)


def test_a_closure_is_called_once_a_step(make, network, batches, loss_of, by_hand, assert_same_weights) -> None:
    model, expected, calls = network(), network(), []
    optimizer = make(model.parameters())
    for batch in batches:

        def closure(batch=batch):
            calls.append(1)
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            return loss

        expected_loss = loss_of(model, batch).item()
        assert optimizer.step(closure).item() == expected_loss
    assert len(calls) == len(batches)
    assert_same_weights(model, by_hand(expected, make(expected.parameters()), batches))


@pytest.mark.parametrize("way", ["maximize", "foreach"])
def test_other_ways_of_a_step(way, make, network, batches, loss_of, by_hand, assert_same_weights) -> None:
    """Uphill on the loss is downhill on its negative; all parameters at once is one after the other."""
    model, expected = network(), network()
    fused = make(model.parameters()).param_groups[0]["fused"]
    optimizer = make(model.parameters(), fused=None, **{way: True})
    for batch in batches:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        (-loss if way == "maximize" else loss).backward()
        optimizer.step()
    by_hand(expected, make(expected.parameters()), batches)
    assert_same_weights(model, expected, 1e-6 if fused else 0)


def test_half_precision_weights_follow_single_precision_ones(make, network, batches, loss_of) -> None:
    """Within the rounding of bfloat16 weights; states in bfloat16 would drift further."""
    half, single = network().bfloat16(), network()
    single.load_state_dict(half.state_dict())
    for model in (half, single):
        optimizer = make(model.parameters(), fused=None)
        for batch in batches:
            optimizer.zero_grad()
            loss_of(model, {**batch, "inputs": batch["inputs"].to(model[0].weight.dtype)}).backward()
            optimizer.step()
    for one, other in zip(half.parameters(), single.parameters(), strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one.float(), other, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_what_cannot_be_updated_is_refused_and_left_out(dtype, make, network) -> None:
    """In one line; an optimizer that kept the refused group would fail at its next step."""
    optimizer = make(network().parameters())
    wrong = nn.Parameter(torch.zeros(2, dtype=dtype), requires_grad=dtype.is_complex)
    for group, message in (
        ({"params": [wrong]}, "updates real floating-point parameters only"),
        ({"params": [nn.Parameter(torch.zeros(2))], "lr": -1.0}, "lr must be at least 0"),
    ):
        with pytest.raises(ValueError, match=message) as refusal:
            optimizer.add_param_group(group)
        assert "\n" not in str(refusal.value)
        assert len(optimizer.param_groups) == 1
    with pytest.raises(ValueError, match="updates real floating-point parameters only"):
        make([wrong])


def test_sparse_gradients_are_refused_before_anything_moves(make) -> None:
    dense, table = nn.Linear(2, 2), nn.Embedding(4, 2, sparse=True)
    optimizer = make([*dense.parameters(), *table.parameters()])
    dense(table(torch.tensor([1]))).sum().backward()
    before = copy.deepcopy(dense.state_dict())
    with pytest.raises(ValueError, match=r"^\w+ does not support sparse gradients$"):
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())


def test_a_state_of_another_optimizer_is_refused(network, batches, by_hand) -> None:
    """By torch it would be taken, to fail at the next step with a KeyError."""
    model = network()
    adam = torch.optim.Adam(model.parameters())
    by_hand(model, adam, batches)
    optimizer = ACClip(model.parameters(), lr=0.5)
    with pytest.raises(ValueError, match=r"^not a state of ACClip: it has no alpha, second_moment$"):
        optimizer.load_state_dict(adam.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert not optimizer.state
