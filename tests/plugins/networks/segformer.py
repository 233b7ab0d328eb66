import segmentation_models_pytorch as smp

from usbench import Method


def build(task, fusion):
    channels, classes = len(task.modalities), len(task.classes)
    return smp.Segformer("mit_b0", encoder_weights=None, in_channels=channels, classes=classes)


METHOD = Method("segformer", "arXiv:2105.15203", build_segmenter=build, fusions=("early",))
