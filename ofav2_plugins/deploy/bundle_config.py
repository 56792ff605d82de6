"""The format of a bundle's config.json. No torch here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .preprocessing import Preprocessing

CONFIG, WEIGHTS, CARD, VERIFICATION = "config.json", "model.safetensors", "card.md", "verification.json"

INT8 = "onnx-int8"
"""The quantized network's name among a bundle's formats."""

Output = Literal["last", "ensemble", "early"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BundleExit(_Part):
    """An exit at which the network can answer.

    Args:
        number: The stage that it follows, from 1.
        temperature: Its logits are divided by it before the softmax.
        threshold: A sample leaves here if its confidence is at least this value; None at the last exit.
        macs: Multiply-accumulates of one image that leaves here.
    """

    number: int
    temperature: float = Field(gt=0)
    threshold: float | None
    macs: int


class ModelFiles(_Part):
    """The network in one format.

    Args:
        exporter: The plugin that wrote the files, with its settings.
        file: The whole network, without leaving early: images to logits.
        segments: For early-exit inference, the chain of its segments, one per exit.
        quantized: Whether it computes in int8.
    """

    exporter: dict[str, Any]
    file: str
    segments: list[str] = []
    quantized: bool = False


class BundleConfig(_Part):
    """Everything that is needed to run a bundle, except for the weights.

    Args:
        format: Identifies this format.
        arch: The architecture in its supernet's space.
        supernet: The supernet, as plugin references.
        network: The config of the static network, from which `build_subnet` rebuilds it.
        output: The exits that compute the prediction: the last one, the ensemble, or the first confident one ("early").
        exits: The exits that can answer, in the order in which they are reached; one unless `output` is "early".
        ensemble: Weight of each exit by its number, if `output` is "ensemble".
        exit_rule: The confidence, if `output` is "early": a plugin of `ofav2.exit_rules` with its settings.
        preprocessing: From an image file to the network's input.
        class_names: One per logit.
        models: The network by format.
    """

    format: Literal["ofav2-bundle-1"] = "ofav2-bundle-1"
    arch: dict[str, Any]
    supernet: Any
    network: dict[str, Any]
    output: Output
    exits: list[BundleExit] = Field(min_length=1)
    ensemble: dict[int, float] | None = None
    exit_rule: dict[str, Any] | None = None
    preprocessing: Preprocessing
    class_names: list[str]
    models: dict[str, ModelFiles] = {}

    @property
    def resolution(self) -> int:
        """Width and height of the network's input in pixels."""
        return self.preprocessing.crop
