"""Contract of `ofav2.exits` (OFAv2 section 3.3, early exits)."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from .. import registry
from ..plugin import Plugin

if TYPE_CHECKING:
    from ..backbones.base import Backbone


class Exits(Plugin, ABC):
    """The stages with an early exit, in addition to the backbone's own tail after the last stage."""

    @functools.cached_property
    def backbone(self) -> Backbone:
        """The backbone of the network; set before the methods below are called (default: MobileNetV3).

        `backbone.head(width, n_classes, dropout)` is a copy of its tail for a stage of another width.
        """
        backbone: Backbone = registry.load(registry.BACKBONES, "mobilenet_v3")
        return backbone

    @abstractmethod
    def heads(self, stage_widths: Sequence[int], n_classes: int, dropout: float) -> nn.ModuleDict:
        """The early exits by the 1-based number of the stage they follow ("1", "2", ...), smallest first.

        The last stage has the backbone's own tail and never has an early exit. An exit maps its stage's output
        [N, stage_widths[i-1], H, W] to logits [N, n_classes] and has a JSON-able `config`, from which
        `head_from_config` rebuilds it. If there are exits, the network has the elastic dimension `height`; its values
        are the numbers of the exits and of the last stage.

        A backbone with elastic widths calls this again for narrower stages; each tensor of an exit must then be a
        leading part of the wide exit's tensor of the same name, which it shares.

        Args:
            stage_widths: Output channels of every stage.
            n_classes: Size of the logits.
            dropout: Dropout rate before each classifier.
        """

    def head_from_config(self, config: dict[str, Any]) -> nn.Module:
        """Build an exit from its `config`; override this for exits that `backbone.head` does not build."""
        return self.backbone.layers_from_config(config)
