"""What the experiments that translate refuse, and what they make of data; nothing is compiled."""

import importlib
from typing import Any

import jax
import numpy as np
import PIL.Image
import pytest

from ganjax import config, data, loop
from ganjax.errors import UsageError
from ganjax.gan import Context
from ganjax.recipes import translation as recipe
from ganjax.recipes.translation import stages_for
from tests.recipes.tiny import built


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "pix2pix_facades",
            {"domain_a": "x"},
            "dataset=random: expected none beside domain_a=x; say --config",
        ),
        ("pix2pix_edges", {"domain_a": "x"}, "domain_a=x: A is made of B here"),
        ("pix2pix_facades", {"dataset": ""}, "dataset= is missing"),
        (
            "pix2pix_facades",
            {"dataset": "", "domain_b": "x"},
            "domain_b=x: expected --config.domain_a beside",
        ),
        ("pix2pix_emoji", {"batch_size": 1}, "norm=batch: expected instance with batch_size=1"),
        ("pix2pix_emoji", {"schedule": "constant", "decay_start": 0.2}, "nothing with schedule=constant"),
        (
            "cyclegan_emoji",
            {"held_out": 0, "held_out_by": "_"},
            "held_out_by=_: expected -, as it does nothing",
        ),
        ("cyclegan_folders", {"cycle": 0, "identity": 0.1}, "identity=0.1: expected 0.5, as it does nothing"),
        ("pix2pix_emoji", {"image_size": 15}, "15x15: this network halves images, and needs even sides"),
        ("pix2pix_emoji", {"stages": 5}, "multiples of 32"),
        ("pix2pix_emoji", {"patch": 70}, "16x16: a discriminator of patch=70 needs sides of at least 24"),
        ("pix2pix_colouring", {"channels": "3,3"}, "channels=.*expected 1,3 or 1,4"),
        ("cyclegan_horse2zebra", {"image_size": 6}, "multiples of 4"),
        (
            "cyclegan_horse2zebra",
            {"channels": "1,3"},
            "identity=0.5: expected 0 where the domains have 1 and 3",
        ),
        (
            "cyclegan_folders",
            {"channels": "1,3", "identity": 0, "skip": True},
            "skip=true: expected as many channels of A as of B, got 1 and 3",
        ),
        (
            "cyclegan_folders",
            {"halvings": 0, "upsampling": "nearest"},
            "upsampling=nearest: expected transposed, as it does nothing with halvings=0",
        ),
        ("cyclegan_folders", {"dataset": ""}, "are missing, or --config.dataset="),
    ],
)
def test_what_does_not_fit(name, changes, message):
    with pytest.raises(ValueError, match=message):
        loop.abstract_state(built(name, **changes), 0)


def test_how_generators_of_cyclegan_enlarge_and_begin(monkeypatch):
    for upsampling, layer in (("transposed", "ConvTranspose_0"), ("nearest", "UpsampleConv_0")):
        generators = loop.abstract_state(built("cyclegan_folders", upsampling=upsampling), 0).params[
            "generators"
        ]
        assert all(layer in generators[direction] for direction in ("AtoB", "BtoA"))
    made: list[Any] = []
    residual = recipe.ResidualGenerator
    monkeypatch.setattr(
        recipe, "ResidualGenerator", lambda *a, **k: made.append(residual(*a, **k)) or made[-1]
    )
    for skip in (False, True):
        built("cyclegan_folders", skip=skip)
    assert [network.skip for network in made] == [False, False, True, True]


def test_directions_and_channels():
    there = built("pix2pix_facades", direction="BtoA", channels="1,3", image_size="16,32")
    state = loop.abstract_state(there, 0)
    shapes = jax.tree.map(np.shape, state.params["generator"])
    assert shapes["Conv_0"]["kernel"][2] == 3  # from B
    assert there.show.conditions()["B"].shape == (3, 16, 32, 3)
    last = max(name for name in shapes if name.startswith("ConvTranspose"))
    assert shapes[last]["kernel"][3] == 1
    pools = loop.abstract_state(built("cyclegan_horse2zebra", channels="1,3", identity=0), 0).carry
    assert pools["A"].images.shape == (12, 8, 8, 1)
    assert pools["B"].images.shape == (12, 8, 8, 3)
    assert not loop.abstract_state(built("cyclegan_horse2zebra", pool_size=0), 0).carry


def test_what_is_made_is_made_of_what_is_seen(tmp_path):
    """Over white; and images beside folders are no mistake here."""
    transparent = np.zeros((16, 16, 4), np.uint8)  # black, of which nothing is seen
    for name in ("a", "sub/b", "sub/c", "d", "e", "f", "g", "h"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(transparent).save(path)
    settings = {"dataset": str(tmp_path), "channels": "1,4", "held_out": 0, "batch_size": 2}
    source = built("pix2pix_colouring", **settings).stages[0].data
    raw = source.read(np.array([0, 1]))
    context = Context(jax.random.key(0), jax.numpy.arange(2))
    assert float(source.transform(raw, context)["A"].min()) == 1


def test_feature_matching_is_a_term_of_its_own():
    names = [loop.metric_names(built("pix2pix_emoji", feature_matching=weight)) for weight in (0, 10)]
    assert set(names[1]) - set(names[0]) == {"feature_matching"}


def test_what_is_held_out_together_is_measured_together(tmp_path):
    """By names up to the text that the experiment names, also where the set is loaded from its record."""
    names = [f"{letter}-{i}" for letter in "abcd" for i in range(3)]
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for name in names:
            PIL.Image.new("RGB", (16, 16)).save(tmp_path / side / f"{name}.png")

    def from_record(name, **options):
        found = data.load(name, **options)
        return data.from_spec(found.spec(), lambda: found, **found.options())

    folders = {"domain_a": str(tmp_path / "a"), "domain_b": str(tmp_path / "b"), "held_out": 0.5}
    module = importlib.import_module("experiments.pix2pix_emoji")
    changes = module.TINY | folders | {"dataset": "", "held_out_by": "-"}
    settings = config.override(module.Config(), changes, experiment="x")
    outputs = np.zeros((6, 16, 16, 3), np.float32)
    found = module.build(settings, from_record).judge.results({"AtoB": outputs}, None, {})
    assert found["l1"]["protocol"]["interval"] == "95 %, bootstrap over 2 groups of pairs"


def test_domains_of_other_sizes_are_measured_as_wholes(tmp_path):
    """And of more images than are to be measured some of every part."""
    for side, count in (("a", 4), ("b", 10)):
        (tmp_path / side).mkdir()
        for i in range(2 * count):
            PIL.Image.new("RGB", (8, 8), (10 * i,) * 3).save(tmp_path / side / f"{i:02}.png")
    folders = {"domain_a": f"{tmp_path}/a", "domain_b": f"{tmp_path}/b", "held_out": 0.5, "dataset": ""}
    module = importlib.import_module("experiments.cyclegan_folders")
    settings = config.override(module.Config(), module.TINY | folders, experiment="x")
    judge = module.build(settings, data.load).judge
    given = judge.conditions(100)
    assert {domain: len(images) for domain, images in given.items()} == {"A": 10, "B": 10}
    np.testing.assert_array_equal(given["A"][4:8], given["A"][:4])
    assert len(np.unique(given["B"][:, 0, 0, 0])) == 10
    samples = {"AtoB": given["A"], "AtoBtoA": given["A"], "BtoA": given["B"], "BtoAtoB": given["B"]}
    samples["AtoBtoA"][4:] += 1  # of these nothing is measured
    found = judge.results(samples, None, {})
    protocols = [found[f"pixel_kernel_distance_{name}"]["protocol"] for name in ("AtoB", "BtoA")]
    assert [(each["samples"], each["real_count"]) for each in protocols] == [(4, 10), (10, 4)]
    assert found["cycle_l1_AtoB"]["value"] == found["cycle_l1_BtoA"]["value"] == 0
    few = judge.conditions(3)["B"]
    np.testing.assert_array_equal(few, given["B"][[0, 4, 9]])


def test_folders_in_unpaired_domains_are_no_classes(tmp_path):
    """Whatever lies beside them, and whatever the other domain has."""
    for name in ("a/0.png", "a/in/1.png", "a/in/deep/2.png", "b/3.png", "b/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (8, 8)).save(tmp_path / name)
    domains = {"domain_a": f"{tmp_path}/a", "domain_b": f"{tmp_path}/b", "dataset": "", "held_out": 0}
    sources = built("cyclegan_folders", **domains).stages[0].data.datasets
    assert sources["A"].names == ("0", "in/1", "in/deep/2")
    assert sources["A"].num_classes == 0
    assert set(sources["A"].read(np.arange(3))) == {"image"}
    for root, split in (("a", "trainA"), ("b", "trainB")):
        (tmp_path / root).rename(tmp_path / split)
    joined = {"dataset": str(tmp_path), "held_out": 0}
    assert built("cyclegan_folders", **joined).stages[0].data.datasets["A"].num_examples == 3
    with pytest.raises(UsageError, match=r"^--config\.domain_a=nowhere: no such folder"):
        built("cyclegan_folders", **(domains | {"domain_a": "nowhere"}))


def test_nothing_held_out():
    """Then training images are shown, and nothing is measured."""
    experiment = built("pix2pix_facades", held_out=0)
    assert experiment.show.conditions()["A"].shape == (3, 16, 16, 3)
    with pytest.raises(UsageError, match=r"nothing is held out.*--config\.held_out=0\.1"):
        experiment.judge.conditions(5)


def test_as_often_as_images_can_be_halved():
    assert [stages_for(size) for size in ((256, 256), (512, 512), (64, 96), (6, 8))] == [8, 8, 5, 1]


def test_rates_are_constant_and_then_fall_to_zero():
    module = importlib.import_module("experiments.cyclegan_horse2zebra")
    recipe = config.override(module.Config(), {"steps": "100"}, experiment="x")
    optimizer = recipe.optimizers("generators", "discriminators")["generators"]
    one = np.ones(1, np.float32)
    moved = [
        float(-optimizer.update(one, optimizer.init(one), one, step=step)[0][0]) for step in (0, 49, 75, 100)
    ]
    np.testing.assert_allclose(moved, [2e-4, 2e-4, 1e-4, 0], rtol=1e-4)


def test_least_squares_are_the_papers():
    module = importlib.import_module("experiments.cyclegan_horse2zebra")
    assert module.Config().weights() == {"adversarial_weight": 2.0, "discriminator_weight": 1.0}
    facades = importlib.import_module("experiments.pix2pix_facades")
    assert facades.Config().weights() == {"adversarial_weight": 1.0, "discriminator_weight": 0.5}
