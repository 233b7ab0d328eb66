"""The physics of the phantoms, against published formulas and numbers."""

from __future__ import annotations

import numpy as np
import pytest

from usbench.datasets.phantom import signal
from usbench.datasets.phantom import tissues as t


def test_water_and_fat_cancel_out_of_phase():
    # Same relaxation for both species: half and half cancels, pure water does not.
    alike = t.Tissue(t.FAT.t1, t.FAT.t2, 1.0, fat=0.5)
    inside, outside = signal.gradient_echo_pair(alike)
    assert abs(outside) < 1e-9 < inside
    lasting = t.Tissue(900, 1e9, 1.0)
    inside, outside = signal.gradient_echo_pair(lasting)
    decay = np.exp(-(signal.OUT_PHASE_MS - signal.IN_PHASE_MS) / signal.FIELD_DEPHASING_MS)
    assert outside == pytest.approx(inside * decay)
    assert outside == pytest.approx(inside, rel=0.03)
    marrow = signal.gradient_echo_pair(t.MARROW)
    assert abs(marrow[1]) < 0.35 * marrow[0]
    lean, fatty = (
        signal.gradient_echo_pair(t.LIVER),
        signal.gradient_echo_pair(t.Tissue(586, 46, 0.82, fat=0.2)),
    )
    assert abs(fatty[1]) / fatty[0] < 0.7 * abs(lean[1]) / lean[0]


def test_echo_times_are_in_and_out_of_phase_at_1_5_tesla():
    turns = 42.577e6 * 1.5 * 3.4e-6 * np.array([signal.OUT_PHASE_MS, signal.IN_PHASE_MS]) * 1e-3
    assert turns == pytest.approx([0.5, 1.0], abs=0.02)


def test_flair_nulls_csf():
    from usbench.datasets.phantom.msd import brain_signals

    flair, t2 = brain_signals(t.CSF, 0.0)[0], brain_signals(t.CSF, 0.0)[3]
    white = brain_signals(t.WHITE, 0.0)
    assert abs(flair) < 1e-6 < white[0]
    assert t2 > 2 * white[3]
    assert brain_signals(t.OEDEMA, 0.0)[0] > 1.3 * white[0]


def test_spoiled_gradient_echo_peaks_at_the_ernst_angle():
    flips = np.arange(1.0, 90.0)
    signals = [signal.spoiled_gradient_echo(900, 80, 1, 150, 0, flip) for flip in flips]
    assert flips[np.argmax(signals)] == pytest.approx(np.degrees(np.arccos(np.exp(-150 / 900))), abs=0.6)


def test_contrast_agent_shortens_t1():
    lit = signal.with_contrast(t.TUMOUR, 0.2)
    assert 1000 / lit.t1 - 1000 / t.TUMOUR.t1 == pytest.approx(4.1 * 0.2)


def test_adc_is_recovered_from_two_diffusion_images():
    echoes = [
        np.full((3, 3), signal.diffusion_echo(t.PERIPHERAL, 3500, 75, b), np.float32) for b in (50, 800)
    ]
    assert signal.apparent_diffusion(*echoes, 50, 800, 0.0) == pytest.approx(
        t.PERIPHERAL.adc * 1000, rel=1e-3
    )
    assert not signal.apparent_diffusion(*echoes, 50, 800, 10.0).any()


def test_noise_is_rician():
    rng = np.random.default_rng(0)
    noise = signal.rician(np.zeros((200, 200), np.float32), 2.0, rng)
    assert noise.mean() == pytest.approx(2.0 * np.sqrt(np.pi / 2), rel=0.02)
    strong = signal.rician(np.full((200, 200), 100, np.float32), 2.0, rng)
    assert strong.std() == pytest.approx(2.0, rel=0.03)


def test_partial_volume_and_supersampling():
    from usbench.datasets.phantom.fields import Canvas, Grid, Waves, ellipsoid

    affine = np.diag([2.0, 2.0, 6.0, 1.0])
    affine[:3, 3] = -39, -39, -39
    grid = Grid((40, 40, 14), affine)
    still = [Waves.random(np.random.default_rng(0), 50, 100) for _ in range(3)]
    canvas = Canvas(grid.thinner(3), 1, 1, still, 0.0)
    canvas.paint(ellipsoid((0, 0, 0), (25, 20, 30)), [1.0], 1)
    share = canvas.averaged(3)[0]
    assert (canvas.layers[0] == canvas.layers[1]).all()
    assert share.shape == grid.shape
    assert ((share > 0.05) & (share < 0.95)).sum() > 500
    assert share.sum() * 24 == pytest.approx(4 / 3 * np.pi * 25 * 20 * 30, rel=0.02)


def test_waves_are_one_field_on_every_grid():
    from usbench.datasets.phantom.fields import Grid, Waves, rotation

    waves = Waves.random(np.random.default_rng(3), 20, 60)
    affine = np.eye(4)
    affine[:3, :3] = rotation(10, 5, 20) * np.array([2.0, 3.0, 4.0])
    affine[:3, 3] = 5, -7, 11
    grid = Grid((7, 8, 9), affine)
    x, y, z = grid.coordinates()
    points = np.stack([x, y, z], axis=-1).astype(float)
    direct = np.cos(points @ waves.vectors.T + waves.phases).sum(axis=-1) * np.sqrt(2 / len(waves.phases))
    assert waves.on(grid) == pytest.approx(direct, abs=1e-3)
