"""Benchmark sounds: a tone has its pitch, a spectrum has its energy where the sound is."""

import numpy as np
import pytest
import sound
import torch


@pytest.mark.parametrize("frequency", [125.0, 440.0])
def test_a_tone_repeats_at_its_pitch(frequency):
    """The strongest bin of a second of sound is the fundamental, in Hz."""
    spectrum = np.abs(np.fft.rfft(sound.tone(frequency, samples=sound.RATE, seed=0)))
    assert int(spectrum.argmax()) == frequency


@pytest.mark.parametrize(("frequency", "band"), [(500.0, 6), (1000.0, 13), (4000.0, 31)])
def test_a_sine_lies_in_the_mel_band_of_its_frequency(frequency, band):
    """Slaney's mel is 7.5, 15 and 35.16 here: 15 at 1 kHz, then 27 for each factor of 6.4, 45.25 at 8 kHz.

    Band i of 40 is centred on (i + 1)·45.25 / 41; the nearest one has the most energy.
    """
    wave = np.sin(2 * np.pi * frequency * np.arange(sound.RATE) / sound.RATE)
    power = sound.mel_spectrogram(wave, n_fft=1024, hop=160, bands=40)
    assert int(power[20].argmax()) == band


def test_a_cepstrum_of_even_bands_has_only_its_first_coefficient():
    """The orthonormal DCT-II of a constant c over 40 bands is c·√40, then zeros; silence is log(1e-6)."""
    cepstrum = sound.mfcc(np.zeros(sound.RATE), frames=49, coefficients=10)
    expected = torch.zeros(49, 10)
    expected[:, 0] = np.log(1e-6) * np.sqrt(40)
    torch.testing.assert_close(cepstrum, expected, atol=1e-3, rtol=0)


def test_sounds_repeat_by_seed_and_differ_between_seeds():
    """Calibration and evaluation differ in nothing but their seeds."""
    for make in (sound.utterance, sound.machine_noise):
        first, again, other = (make(seed, seconds=0.3) for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.allclose(first, other)
