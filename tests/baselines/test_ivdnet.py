"""IVD-Net: conformance, a count worked out from the authors' constructor, and its connections by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from usbench.baselines.ivdnet import METHOD, Block, IVDNet, build
from usbench.errors import UsbenchError
from usbench.testing import MethodTests, mock_task


@pytest.mark.slow
class TestIVDNet(MethodTests):
    method = METHOD


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def step(inputs: int, outputs: int, taps: int) -> int:
    """Parameters of a convolution with bias and its batch norm."""
    return inputs * outputs * taps + outputs + 2 * outputs


def block(inputs: int, outputs: int, factored: bool) -> int:
    taps = (1, 3, 5, 3, 3)
    branches = sum(2 * step(outputs, outputs, k) if factored else step(outputs, outputs, k * k) for k in taps)
    return step(inputs, outputs, 9) + branches + step(5 * outputs, outputs, 1) + step(outputs, outputs, 9)


def test_the_count_of_the_authors_network() -> None:
    """Four modalities, width 32: levels take 1, 4, 12 and 28 times the width, the bridge 60 times."""
    w = 32
    paths = 4 * sum(
        block(inputs, outputs, True)
        for inputs, outputs in ((1, w), (4 * w, 2 * w), (12 * w, 4 * w), (28 * w, 8 * w))
    )
    bridge = block(60 * w, 16 * w, True)
    ups = sum(step(2 * k * w, k * w, 9) for k in (8, 4, 2, 1))
    blocks = sum(block(k * w, k * w, False) for k in (8, 4, 2, 1))
    head = w * 2 * 9 + 2
    assert count(IVDNet(4, 2)) == paths + bridge + ups + blocks + head == 54_313_954


def test_both_ways_of_halving_have_the_same_tensors() -> None:
    crop, pool = IVDNet(3, 2, 4, "crop"), IVDNet(3, 2, 4, "pool")
    pool.load_state_dict(crop.state_dict())


def test_a_level_takes_its_own_map_first_and_the_middle_of_what_came_before() -> None:
    """Two modalities: what each block is given, written out."""
    network = IVDNet(2, 1, 4).eval()
    given: dict[int, Tensor] = {}
    for path in network.paths:
        assert isinstance(path, nn.ModuleList)
        for one in path:
            one.register_forward_pre_hook(lambda module, inputs: given.update({id(module): inputs[0]}))
    network.bridge.register_forward_pre_hook(lambda module, inputs: given.update({id(module): inputs[0]}))
    images = torch.randn(1, 2, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network(images)
        first, second = network.paths
        a0, b0 = first[0](images[:, :1]), second[0](images[:, 1:])  # type: ignore[index]
        pooled = [functional.max_pool2d(one, 2) for one in (a0, b0)]
        torch.testing.assert_close(given[id(second[1])], torch.cat([pooled[1], pooled[0]], 1))  # type: ignore[index]
        a1, b1 = first[1](torch.cat(pooled, 1)), second[1](torch.cat(pooled[::-1], 1))  # type: ignore[index]
    middle = torch.cat(pooled[::-1], 1)[..., 4:12, 6:18]
    wanted = torch.cat([functional.max_pool2d(b1, 2), functional.max_pool2d(a1, 2), middle], 1)
    torch.testing.assert_close(given[id(second[2])], wanted)  # type: ignore[index]
    # 2 maps of 32 channels, and 2 x 16 + 2 x 8 + 2 x 4 of what came before, at a 16th of the size.
    assert given[id(network.bridge)].shape == (1, 64 + 56, 2, 3)


def test_a_block_sees_eleven_places_around() -> None:
    """Reach of 1 + 4 (dilated by four, three taps) + 1 to each side."""
    made = Block(1, 2, True).eval()
    for parameter in made.parameters():
        nn.init.ones_(parameter)
    image = torch.zeros(1, 1, 31, 31)
    with torch.no_grad():
        base = made(image)
        image[0, 0, 15, 15] = 1
        rows, columns = torch.nonzero((made(image) - base)[0, 0], as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (9, 21, 9, 21)


def test_errors() -> None:
    task = mock_task(2, 1)
    with pytest.raises(UsbenchError, match=r"method\.dense is 'mean'; choose crop or pool"):
        build(task, "hybrid", dense="mean")
    with pytest.raises(UsbenchError, match=r"method\.width is 0"):
        build(task, "hybrid", width=0)
