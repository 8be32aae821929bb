"""The table of benchmark networks: names, seeded and disjoint data, and models that take it."""

import digits
import networks
import pytest
import samples
import torch
from networks import NETWORKS, Network, Part

# These build within a second or two, from packages that the demo extra already needs.
QUICK = ("efficientnet-lite0", "resnet8", "ds-cnn", "mobilenet-v1-025", "deep-autoencoder")


@pytest.fixture(params=NETWORKS, ids=lambda row: row.name)
def row(request) -> Network:
    """Each network of the table in turn."""
    return request.param


def same(left, right) -> bool:
    """Two examples hold equal tensors."""
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


class TestTable:
    def test_has_a_dozen_networks_under_names_of_their_own(self):
        """A result is stored under its network's name, so no two share one."""
        assert len({row.name for row in NETWORKS}) == len(NETWORKS) >= 12

    def test_finds_a_network_by_name(self):
        """The name is all that the command line has."""
        assert networks.network("digits").name == "digits"

    def test_refuses_an_unknown_name(self):
        """A misspelt name must not measure nothing in silence."""
        with pytest.raises(LookupError, match=r"no benchmark network is named 'lenet'; there are .*digits"):
            networks.network("lenet")


class TestData:
    def test_is_the_same_every_time(self, row):
        """Two results are comparable only if they saw the same values."""
        for part in Part:
            assert all(same(a, b) for a, b in zip(row.data(part), row.data(part), strict=True))

    def test_evaluation_shares_no_example_with_calibration(self, row):
        """Ranges found on an example would flatter the result on it."""
        calibration, evaluation = row.calibration(), row.evaluation()
        assert not any(same(a, b) for a in calibration for b in evaluation)

    def test_has_one_shape_and_is_finite(self, row):
        """Programs have static shapes, and a range over NaN is none."""
        batches = row.calibration() + row.evaluation()
        assert len({tuple((x.shape, x.dtype) for x in inputs) for inputs in batches}) == 1
        assert all(bool(torch.isfinite(x).all()) for inputs in batches for x in inputs)

    def test_labels_one_class_for_each_evaluation_input(self, row):
        """Top-1 pairs labels with inputs by position."""
        if row.known is None:
            assert row.labels is None
            return
        assert len(row.labels) == len(row.evaluation())
        assert len(set(row.labels)) > 1

    def test_photographs_are_calibrated_or_evaluated_never_both(self):
        """Crops of one photograph overlap, so the split is by photograph."""
        assert not set(samples.CALIBRATION_PHOTOS) & set(samples.EVALUATION_PHOTOS)

    def test_digits_are_trained_or_held_out_never_both(self):
        """Together they are all of the digits, so nothing held out was trained on."""
        train, held_out = digits.train_set()[0], digits.held_out()[0]
        assert (len(train), len(held_out)) == (1437, 360)


class TestBuild:
    @pytest.mark.parametrize("name", QUICK)
    def test_gives_the_same_outputs_in_eval_mode_each_time(self, name):
        """Weights are packaged or seeded, whatever the caller drew before."""
        row = networks.network(name)
        (first, inputs), (second, _) = row.build(), row.build()
        assert not first.training
        assert torch.equal(first(*inputs), second(*inputs))

    def test_leaves_the_callers_random_numbers_alone(self):
        """Building a network in the middle of a seeded test must not change what the test draws."""
        pytest.importorskip("executorch.examples.models.mlperf_tiny")
        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        networks.network("ds-cnn").build()
        assert torch.equal(torch.rand(3), expected)

    def test_random_classifiers_tell_inputs_apart(self):
        """Agreement with the float model says nothing about a network that gives one class to all."""
        pytest.importorskip("executorch.examples.models.mlperf_tiny")
        row = networks.network("mobilenet-v1-025")
        model, _ = row.build()
        classes = {int(model(*inputs).argmax(1)) for inputs in row.evaluation()}
        assert len(classes) > 1

    @pytest.mark.parametrize(
        ("photo", "classes"), [("chelsea", {281, 282, 285}), ("coffee", {504, 967, 968})]
    )
    def test_efficientnet_sees_what_the_photograph_shows(self, photo, classes):
        """Cats and coffee cups of ImageNet: wrong weights, channel order or scaling would not find them."""
        pytest.importorskip("skimage")
        pytest.importorskip("efficientnet_lite_pytorch")
        [inputs] = samples.crops([photo], size=224, count=1, seed=0, mean=127.0, std=128.0, least=1.0)
        model, _ = networks.network("efficientnet-lite0").build()
        assert int(model(*inputs).argmax()) in classes

    @pytest.mark.parametrize("name", ["mtcnn-rnet", "mtcnn-onet", "crepe-tiny"])
    def test_packaged_weights_know_their_labels(self, name):
        """Faces and pitches are found: the weights, the scaling and the labels belong together."""
        row = networks.network(name)
        model, _ = row.build()
        outputs = [model(*inputs) for inputs in row.evaluation()]
        leaves = [output if isinstance(output, tuple) else (output,) for output in outputs]
        classes = [int(leaf[row.scores].argmax(1)) for leaf in leaves]
        hits = sum(a == b for a, b in zip(classes, row.labels, strict=True))
        assert hits >= 0.9 * len(classes)

    @pytest.mark.slow
    def test_the_digits_network_learns_the_held_out_digits(self):
        """Accuracy lost to quantization shows only where the float network is accurate."""
        pixels, labels = digits.held_out()
        with torch.no_grad():
            hits = digits.trained()(pixels).argmax(1) == labels
        assert float(hits.double().mean()) > 0.98
