"""Owns the benchmark sounds: tones of a known pitch, speech-like and machine noise, and their spectra."""

from __future__ import annotations

import math

import numpy as np
import torch

__all__ = ["RATE", "machine_noise", "mel_spectrogram", "mfcc", "tone", "utterance"]

RATE = 16_000
"""Samples a second of every sound here."""


def tone(frequency: float, *, samples: int, seed: int) -> np.ndarray:
    """A steady sound of a known pitch in Hz: partials falling as 1/k, random phases, noise at -30 dB."""
    draw = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    partials = range(1, max(2, min(24, int(RATE / 2 / frequency))))
    wave = sum(np.sin(2 * np.pi * k * frequency * time + draw.uniform(0, 2 * np.pi)) / k for k in partials)
    return wave + draw.normal(scale=np.std(wave) * 10 ** (-30 / 20), size=samples)


# First three resonances of five vowels in Hz, average adult values.
_FORMANTS = ((730, 1090, 2440), (270, 2290, 3010), (530, 1840, 2480), (570, 840, 2410), (300, 870, 2240))


def utterance(seed: int, *, seconds: float) -> np.ndarray:
    """A speech-like sound: harmonics of a wandering pitch under vowel resonances, in syllables or hiss."""
    draw = np.random.default_rng(seed)
    samples = int(seconds * RATE)
    base, tract = draw.uniform(90, 240), draw.uniform(0.9, 1.15)
    syllable = int(0.2 * RATE)
    wave = np.zeros(samples)
    for begin in range(0, samples, syllable):
        length = min(syllable, samples - begin)
        envelope = np.sin(np.pi * np.arange(length) / syllable) ** 0.5
        if draw.uniform() < 0.2:
            wave[begin : begin + length] = 0.05 * envelope * draw.normal(size=length)
            continue
        pitch = base * draw.uniform(0.85, 1.2) * np.linspace(1.0, draw.uniform(0.9, 1.1), length)
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        resonances = tract * np.array(_FORMANTS[draw.integers(len(_FORMANTS))])
        for k in range(1, int(4000 / base)):
            gain = np.sum(1 / (1 + ((k * base - resonances) / 120) ** 2)) / k**0.5
            wave[begin : begin + length] += gain * envelope * np.sin(k * phase)
    wave += draw.normal(scale=1e-3, size=samples)
    return 0.1 * wave / np.sqrt(np.mean(wave**2))


def machine_noise(seed: int, *, seconds: float) -> np.ndarray:
    """A running machine: mains hum with its harmonics, a rotor's whine, and low-pass noise."""
    draw = np.random.default_rng(seed)
    samples = int(seconds * RATE)
    time = np.arange(samples) / RATE
    hum = sum(draw.uniform(0.2, 1.0) * np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 9))
    whine = draw.uniform(0.05, 0.3) * np.sin(2 * np.pi * draw.uniform(800, 3000) * time)
    noise = np.convolve(draw.normal(size=samples), np.exp(-np.arange(64) / draw.uniform(2, 12)), mode="same")
    return 0.1 * (hum + whine + 0.2 * noise)


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    # Slaney's scale: linear to 1 kHz (15 mel), then 27 steps for each factor of 6.4.
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * math.log(6.4) / 27))


def _mel_bank(n_fft: int, bands: int) -> np.ndarray:
    """Triangular filters of equal area from 0 Hz to half the rate, (bands, n_fft // 2 + 1)."""
    top = 15 + 27 * math.log(RATE / 2 / 1000) / math.log(6.4)
    edges = _mel_to_hz(np.linspace(0, top, bands + 2))
    bins = np.arange(n_fft // 2 + 1) * RATE / n_fft
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))[:, None]


def mel_spectrogram(wave: np.ndarray, *, n_fft: int, hop: int, bands: int) -> torch.Tensor:
    """Power mel spectrogram with a centred Hann window, float32 of shape (frames, bands)."""
    spectrum = torch.stft(
        torch.from_numpy(wave), n_fft, hop, window=torch.hann_window(n_fft, dtype=torch.float64),
        pad_mode="constant", return_complex=True,
    )  # fmt: skip
    bank = torch.from_numpy(_mel_bank(n_fft, bands))
    return (bank @ spectrum.abs().square()).T.float()


def mfcc(wave: np.ndarray, *, frames: int, coefficients: int) -> torch.Tensor:
    """Cepstrum of 40 log-mel bands (orthonormal DCT-II), every 20 ms, float32 (frames, coefficients)."""
    mel = mel_spectrogram(wave, n_fft=512, hop=RATE // 50, bands=40)[:frames]
    bands = mel.shape[1]
    angle = torch.arange(coefficients)[:, None] * (torch.arange(bands) + 0.5) * math.pi / bands
    basis = torch.cos(angle) * math.sqrt(2 / bands)
    basis[0] /= math.sqrt(2)
    return torch.log(mel + 1e-6) @ basis.T
