"""mmFormer: conformance, the count of the authors' network, and what the absence of a modality changes."""

from __future__ import annotations

import pytest
import torch
from kit.volume_tests import volumes
from torch import Tensor, nn

from usbench import Supervised, UsbenchError
from usbench.baselines.mmformer import METHOD, VOLUMES, MMFormer, build
from usbench.testing import MethodTests, mock_task


@pytest.mark.slow
class TestMMFormer(MethodTests):
    method = METHOD


@pytest.mark.slow
class TestMMFormerOfVolumes(MethodTests):
    method = VOLUMES
    modalities = (2, 3)


def small(modalities: int = 2, shape: tuple[int, ...] = (64, 64), tokens: str = "published") -> MMFormer:
    torch.manual_seed(0)
    network = MMFormer(
        modalities, 2, shape, width=4, hidden=32, inner=48, heads=4, dropout=0.0, tokens=tokens
    )
    nn.init.normal_(network.places)
    return network


def images(modalities: int = 2, side: int = 64) -> Tensor:
    return torch.randn(3, modalities, side, side, generator=torch.Generator().manual_seed(1))


def convolution(inputs: int, outputs: int, taps: int) -> int:
    return inputs * outputs * taps + outputs


def test_the_count_of_the_authors_network() -> None:
    """Four modalities, four classes, 128 x 128 x 128: part by part, as their code builds them."""
    widths, modalities, classes, hidden, inner = (8, 16, 32, 64, 128), 4, 4, 512, 4096
    encoder = sum(
        convolution(inputs, w, 27) + 2 * convolution(w, w, 27)
        for inputs, w in zip((1, *widths[:-1]), widths, strict=True)
    )
    transformer = 3 * hidden**2 + convolution(hidden, hidden, 1) + 2 * 2 * hidden
    transformer += convolution(hidden, inner, 1) + convolution(inner, hidden, 1)
    into_tokens = convolution(widths[-1], hidden, 1)
    positions = 8**3 * hidden
    step = sum(2 * convolution(2 * w, w, 27) + convolution(w, w, 1) for w in widths[:-1])
    head = convolution(widths[0], classes, 1)
    merges = sum(
        convolution(modalities * w, w, 1) + convolution(w, w, 27) + convolution(w, w, 1) for w in widths
    )
    heads = sum(convolution(w, classes, 1) for w in widths[1:])
    out = convolution(modalities * hidden, modalities * widths[-1], 1)
    used = modalities * (encoder + into_tokens + positions + transformer) + transformer + out
    used += (step + head) + (step + head + merges + heads)
    with torch.device("meta"):
        network = MMFormer(modalities, classes, (128, 128, 128))
    assert sum(p.numel() for p in network.parameters()) == used == 36_391_760
    # Their code also makes a way back from each modality's tokens, which its forward pass never takes.
    assert used + modalities * convolution(hidden, widths[-1], 1) == 36_654_416


def test_an_absent_modality_has_no_say() -> None:
    network = small().eval()
    there = torch.tensor([[True, True], [True, False], [False, True]])
    with torch.no_grad():
        first = network(images(), there)
        changed = images()
        changed[1, 1] = changed[1, 1].flip(-1)
        changed[2, 0] = changed[2, 0].flip(-1)
        torch.testing.assert_close(network(changed, there), first)
        assert not torch.allclose(network(changed), network(images()))
        torch.testing.assert_close(network(images(), torch.ones_like(there)), network(images()))
        # What one slice lacks is nothing to the others.
        torch.testing.assert_close(network(images()[:1]), first[:1], atol=1e-4, rtol=0)


def test_own_masks_of_absent_modalities_train_nothing() -> None:
    network = small().train()
    there = torch.tensor([[True, False]] * 3)
    found = network(images(), there)
    assert isinstance(found, Supervised)
    # Those of two modalities, and of the four coarser levels.
    assert [tuple(one.shape) for one in found.auxiliary] == [(3, 2, 64, 64)] * 6
    assert torch.equal(found.auxiliary[1], found.logits)
    found.auxiliary[1].sum().backward()
    assert not any(p.grad is not None and p.grad.any() for p in network.parameters())
    found = network(images(), there)
    found.auxiliary[0].sum().backward()
    reached = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert {name.split(".")[0] for name in reached} == {"encoders", "alone"}
    assert not any(name.startswith("encoders.1.") for name in reached)


def test_own_mask_of_a_modality_sees_that_modality_alone() -> None:
    network = small().train()
    changed = images()
    changed[:, 1] = changed[:, 1].flip(-1)
    before, after = network(images()), network(changed)
    torch.testing.assert_close(before.auxiliary[0], after.auxiliary[0])
    assert not torch.allclose(before.auxiliary[1], after.auxiliary[1])
    assert not torch.allclose(before.logits, after.logits)


@pytest.mark.parametrize("tokens", ["published", "place"])
def test_how_tokens_become_a_map_again(tokens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two modalities, four places in a row: tokens a0..a3 and b0..b3 of one number."""
    network = small(tokens=tokens)
    monkeypatch.setattr(network.inter, "forward", lambda found, places: found)
    monkeypatch.setattr(network, "exit", nn.Identity())
    a, b = torch.arange(4.0).view(1, 4, 1), 10 + torch.arange(4.0).view(1, 4, 1)
    found = network._together([a, b], [a, b], (1, 4))
    wanted = [[0, 1, 2, 3], [10, 11, 12, 13]] if tokens == "place" else [[0, 2, 10, 12], [1, 3, 11, 13]]
    assert found[0, :, 0].tolist() == wanted


def test_positions_of_another_size_lie_between_the_learned_ones() -> None:
    network = small(1)
    with torch.no_grad():
        row = torch.arange(4.0).repeat(4).view(1, 16, 1)  # the column of each place of 4 x 4
        network.places.copy_(row.expand(1, 16, 32))
        # Twice the size: a quarter of a place to each side of its middle; the ends stay.
        (place,) = network._places((8, 8))
    assert place[0, :8, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    (same,) = network._places((4, 4))
    assert torch.equal(same[0], network.places[0])


def test_volumes_of_another_size_have_logits_of_their_size() -> None:
    network = small(shape=(32, 32, 32)).eval()
    with torch.no_grad():
        assert network(volumes(2, (32, 32, 64))).shape == (1, 2, 32, 32, 64)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"tokens": "scrambled"}, "method.tokens is 'scrambled'; choose published or place"),
        ({"hidden": 100}, "method.hidden is 100, no multiple of method.heads 8"),
        ({"width": 0}, "method.width is 0"),
        ({"depth": 0}, "method.depth is 0"),
        ({"dropout": 1.0}, "method.dropout is 1.0"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: dict[str, object], named: str) -> None:
    with pytest.raises(UsbenchError, match=named):
        build(mock_task(2, 1), "hybrid", (64, 64), **settings)  # type: ignore[arg-type]
