"""The network of a run: a method under a fusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from usbench.contracts.names import PROTOCOLS
from usbench.errors import UsbenchError
from usbench.fusions.segmenter import takes_present

if TYPE_CHECKING:
    from usbench.config import Config
    from usbench.contracts.data import Task
    from usbench.contracts.fusion import Fusion
    from usbench.contracts.method import Method


class Padded(nn.Module):
    """Any network as one that takes any size: inputs padded to a multiple, logits cropped back.

    The padding repeats the edge, half of it on each side. `takes_present` is that of the network.
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.takes_present = takes_present(network)
        self.multiple = multiple

    def forward(self, images: Tensor, **extras: Tensor) -> Tensor:
        """images [B, M, H, W] of any size -> logits [B, K, H, W]."""
        height, width = images.shape[-2:]
        down, right = (-height) % self.multiple, (-width) % self.multiple
        if not (down or right):
            logits: Tensor = self.network(images, **extras)
            return logits
        top, left = down // 2, right // 2
        padded = functional.pad(images, (left, right - left, top, down - top), mode="replicate")
        logits = self.network(padded, **extras)
        return logits[..., top : top + height, left : left + width]


def applies(method: Method, fusion: Fusion) -> bool:
    """Whether the method runs under the fusion.

    An encoder and a decoder run under every fusion of a plugin, a segmenter under those that it declares.
    """
    of_plugin = fusion.name not in PROTOCOLS
    return fusion.name in method.fusions or (of_plugin and method.build_network is not None)


def require_fusion(method: Method, fusion: Fusion) -> None:
    """Raise `UsbenchError` where the method does not support the fusion."""
    if not applies(method, fusion):
        choices = " or ".join(method.fusions)
        why = f" ({why})" if (why := method.why_not(fusion.name)) else ""
        raise UsbenchError(
            f"method '{method.name}' does not apply to {fusion.name} fusion{why}; choose {choices}"
        )


def require_network(method: Method, remedy: str = "its masks come with its runs") -> None:
    """Raise `UsbenchError` where the method is an outside pipeline, which has no network of usbench."""
    if method.pipeline is not None:
        raise UsbenchError(f"method '{method.name}' is an outside pipeline and has no network here; {remedy}")


def build_model(method: Method, task: Task, fusion: Fusion, config: Config) -> nn.Module:
    """The network of a run.

    Args:
        method: An encoder and a decoder, or a segmenter.
        task: Gives the number of modalities M and of classes K.
        fusion: One of the protocols, or of a plugin.
        config: Its "method" and "fusion" sections are the settings of the two; what the section of the
            fusion does not say has its default.

    Returns:
        A network from images [B, M, H, W] to logits [B, K, H, W], for any H and W.

    Raises:
        UsbenchError: Where the method does not support the fusion or has no network, or a plugin's fusion
            does not build.
    """
    require_fusion(method, fusion)
    require_network(method)
    own = {**fusion.settings, **config.fusion}
    if method.build_segmenter is not None:
        network = method.build_segmenter(task, fusion.name, **config.method)
        if fusion.around_segmenter is not None:
            network = fusion.around_segmenter(network, task, own)
    elif fusion.name in PROTOCOLS:
        network = fusion.network(method, task, config.method, own)
    else:
        network = _foreign(fusion, method, task, config.method, own)
    return Padded(network, method.size_multiple)


def _foreign(
    fusion: Fusion, method: Method, task: Task, settings: dict[str, object], own: dict[str, object]
) -> nn.Module:
    """What the fusion of a plugin builds; whatever it raises is an error that names it."""
    try:
        network: object = fusion.network(method, task, settings, own)
    except UsbenchError:
        raise
    except Exception as error:
        raise UsbenchError(
            f"fusion '{fusion.name}' cannot be built for method '{method.name}': {type(error).__name__}: "
            f"{error}; mend it (--debug shows where)"
        ) from error
    if not isinstance(network, nn.Module):
        raise UsbenchError(
            f"fusion '{fusion.name}' built a {type(network).__name__}, not a network; return an nn.Module"
        )
    return network
