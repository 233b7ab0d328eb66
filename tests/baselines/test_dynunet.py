"""nnU-Net's network: conformance, its plan, and MONAI's own network."""

from __future__ import annotations

import pytest
import torch
from kit.volume_tests import assert_is_monais, volumes
from monai.networks.nets import DynUNet

from usbench.baselines.dynunet import METHOD, build, plan
from usbench.errors import UsbenchError
from usbench.testing import MethodTests


@pytest.mark.slow
class TestDynUNet(MethodTests):
    method = METHOD
    modalities = (2, 3)


@pytest.mark.parametrize(
    ("shape", "anisotropy"), [((16, 32, 32), 1.0), ((12, 64, 48), 1.0), ((8, 64, 64), 4.0)]
)
def test_it_is_monais(shape: tuple[int, int, int], anisotropy: float) -> None:
    kernels, strides = plan(shape, anisotropy)
    torch.manual_seed(0)
    ours = build(3, 2, shape, width=4, anisotropy=anisotropy)
    torch.manual_seed(0)
    theirs = DynUNet(
        3, 3, 2, kernels, strides, strides[1:], filters=[min(4 * 2**i, 40) for i in range(len(strides))]
    )
    assert_is_monais(ours, theirs, [shape, shape], 3)


def test_the_whole_network_has_monais_widths_and_count() -> None:
    shape = (64, 64, 64)
    kernels, strides = plan(shape)
    network = build(1, 3, shape)
    theirs = DynUNet(3, 1, 3, kernels, strides, strides[1:])  # Widths by its own rule, nnU-Net's.
    assert list(network.channels) == theirs.filters == [32, 64, 128, 256, 320]
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        # 128: 64, 32, 16, 8, 4, as nnU-Net plans for a patch of that size.
        ((128, 128, 128), [(2, 2, 2)] * 5),
        # 16 slices are halved twice, pixels four times: 48, 24, 12, 6.
        ((16, 96, 96), [(2, 2, 2)] * 2 + [(1, 2, 2)] * 2),
        # 20 slices are halved to 5; 320 and 256 pixels to 5 and 4.
        ((20, 320, 256), [(2, 2, 2)] * 2 + [(1, 2, 2)] * 4),
        # Three slices are never halved.
        ((3, 32, 32), [(1, 2, 2)] * 3),
        # The last axis left needs 12 voxels: 16, 16, 16 and then no more of 8 alone.
        ((4, 4, 8), []),
        ((4, 4, 12), [(1, 1, 2)]),
    ],
)
def test_no_axis_is_halved_below_four_voxels(
    shape: tuple[int, int, int], strides: list[tuple[int, int, int]]
) -> None:
    kernels, found = plan(shape)
    assert found == [(1, 1, 1), *strides]
    assert kernels == [(3, 3, 3)] * len(found)
    coarsest = list(shape)
    for stride in found:
        assert all(s % t == 0 for s, t in zip(coarsest, stride, strict=True))
        coarsest = [s // t for s, t in zip(coarsest, stride, strict=True)]
    assert all(c >= min(4, s) for c, s in zip(coarsest, shape, strict=True))


@pytest.mark.parametrize(
    ("shape", "anisotropy", "strides", "flat"),
    [
        # Plans that nnU-Net made: of Task115 of its own repository (5 and 0.742 mm), of a liver
        # (2.5 and 0.803 mm), of DoDNet's abdominal data (3 and 1.5 mm) and of issue 856 (1 and 0.768 mm).
        ((28, 256, 256), 5 / 0.742, "122 122 222 222 122 122", 2),
        ((40, 224, 224), 2.5 / 0.80273402, "122 222 222 222 122", 1),
        ((64, 192, 192), 3 / 1.5, "122 222 222 222 222", 1),
        ((128, 128, 128), 1 / 0.76757812, "222 222 222 222 222", 0),
    ],
)
def test_plans_are_those_of_nnunet(
    shape: tuple[int, int, int], anisotropy: float, strides: str, flat: int
) -> None:
    kernels, found = plan(shape, anisotropy)
    assert found == [(1, 1, 1), *(tuple(map(int, stride)) for stride in strides.split())]
    assert kernels == [(1, 3, 3)] * flat + [(3, 3, 3)] * (len(found) - flat)


def test_distant_slices_are_first_looked_at_one_by_one() -> None:
    # Slices 7.7 mm apart with pixels of 1 mm: pixels of 2 and of 4 mm come first.
    kernels, strides = plan((16, 96, 96), anisotropy=7.7)
    assert strides == [(1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)]
    assert kernels == [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)]
    # And pixels of 4 mm with slices of 1 mm are waited for.
    kernels, strides = plan((64, 64, 64), anisotropy=0.25)
    assert strides[1:3] == [(2, 1, 1)] * 2
    assert kernels[0] == (3, 1, 1)


def test_a_slice_does_not_see_its_neighbours_at_first() -> None:
    network = build(1, 1, (16, 32, 32), width=4, anisotropy=7.7).eval()
    x = volumes(1, (16, 32, 32))
    other = x.clone()
    other[:, :, 8] += 1
    changed = (network.encoder.input_block(other) != network.encoder.input_block(x)).any(1).any(-1).any(-1)
    # Instance normalisation moves every slice; a shift of all by one factor is taken out beside it.
    convolution = network.encoder.input_block.conv1
    moved = (convolution(other) - convolution(x)).abs().amax((0, 1, 3, 4)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [8]
    assert changed[0, 8]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"width": 0}, r"method\.width 0"),
        ({"anisotropy": 0.0}, r"method\.anisotropy 0\.0"),
        ({"anisotropy": float("nan")}, r"method\.anisotropy nan"),
        ({"shape": (8, 8, 8)}, "8x8x8 voxels 1 times"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(UsbenchError, match=named):
        build(1, 1, **{"shape": (16, 32, 32), **wrong})
