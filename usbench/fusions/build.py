"""The network of a run: a method under a fusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional

from usbench.contracts.method import Supervised
from usbench.contracts.names import PROTOCOLS
from usbench.errors import UsbenchError
from usbench.fusions.segmenter import each_logits, takes_present

if TYPE_CHECKING:
    from usbench.config import Config
    from usbench.contracts.data import Task
    from usbench.contracts.fusion import Fusion
    from usbench.contracts.method import Method


class Padded(nn.Module):
    """Any network as one that takes any size: inputs padded to a multiple, logits cropped back.

    The padding repeats the edge, half of it on each side. `takes_present` is that of the network. What a
    network gives beside its logits (`Supervised`) is for training alone.

    Args:
        network: Images [B, M, H, W] or volumes [B, M, D, H, W], of sizes that are such multiples -> logits.
        multiple: A number for each of the axes at the end that may be padded: H and W, or D, H and W.
    """

    def __init__(self, network: nn.Module, multiple: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.takes_present = takes_present(network)
        self.multiple = multiple

    def forward(self, images: Tensor, **extras: Tensor) -> Tensor | Supervised:
        """images [B, M, H, W] or [B, M, D, H, W] of any size -> logits [B, K, H, W] or [B, K, D, H, W].

        Raises:
            UsbenchError: For a network that in evaluation gives more than logits.
        """
        sizes = images.shape[-len(self.multiple) :]
        short = [-size % multiple for size, multiple in zip(sizes, self.multiple, strict=True)]
        if not any(short):
            return self._checked(self.network(images, **extras))
        # `pad` counts the axes from the last one on, each with its two sides.
        sides = [side for lack in reversed(short) for side in (lack // 2, lack - lack // 2)]
        inner = [slice(lack // 2, lack // 2 + size) for lack, size in zip(short, sizes, strict=True)]
        padded = self.network(functional.pad(images, sides, mode="replicate"), **extras)
        return each_logits(self._checked(padded), lambda logits: logits[(slice(None), slice(None), *inner)])

    def _checked(self, found: Tensor | Supervised) -> Tensor | Supervised:
        if isinstance(found, Supervised) and not self.training:
            raise UsbenchError(
                "in evaluation the network gives usbench.Supervised; give logits alone unless self.training"
            )
        return found


def multiples(method: Method) -> tuple[int, ...]:
    """Of which numbers the network's H and W, or D, H and W, must be multiples."""
    whole = method.size_multiple
    return whole if isinstance(whole, tuple) else (whole,) * method.dims


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


def builder_settings(method: Method, config: Config) -> dict[str, Any]:
    """What a method's builder is called with beside channels and classes: its settings, perhaps `shape`."""
    if not method.takes_shape:
        return dict(config.method)
    if method.dims == 2:
        seen: tuple[int, ...] = (config.data.size, config.data.size)
    else:
        assert config.volume is not None, "made for a method of slices"
        seen = config.volume.network_shape
    sizes = zip(seen, multiples(method), strict=True)
    return {**config.method, "shape": tuple(size + -size % multiple for size, multiple in sizes)}


def build_model(method: Method, task: Task, fusion: Fusion, config: Config) -> nn.Module:
    """The network of a run.

    Args:
        method: An encoder and a decoder, or a segmenter.
        task: Gives the number of modalities M and of classes K.
        fusion: One of the protocols, or of a plugin.
        config: Its "method" and "fusion" sections are the settings of the two; what the section of the
            fusion does not say has its default.

    Returns:
        A network from images [B, M, H, W] to logits [B, K, H, W], for any H and W; of a method of volumes
        from [B, M, D, H, W] to [B, K, D, H, W].

    Raises:
        UsbenchError: Where the method does not support the fusion or has no network, or a plugin's fusion
            does not build.
    """
    require_fusion(method, fusion)
    require_network(method)
    own = {**fusion.settings, **config.fusion}
    settings = builder_settings(method, config)
    if method.build_segmenter is not None:
        network = method.build_segmenter(task, fusion.name, **settings)
        if fusion.around_segmenter is not None:
            network = fusion.around_segmenter(network, task, own)
    elif fusion.name in PROTOCOLS:
        network = fusion.network(method, task, settings, own)
    else:
        network = _foreign(fusion, method, task, settings, own)
    return Padded(network, multiples(method))


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
