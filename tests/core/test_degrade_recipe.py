import math
from collections import Counter

import pytest
import torch

from hypir_core.config import to_plain
from hypir_core.degrade import Recipe, draw, load_recipe, recipe_names
from hypir_core.degrade.parts import Blur, Jpeg, KernelKind, KernelMix, Noise, Resize
from hypir_core.degrade.recipe import Stage
from hypir_core.errors import ConfigError, UnknownNameError

N = 3000


@pytest.fixture(scope="module")
def draws():
    recipe = load_recipe("realesrgan")
    g = torch.Generator().manual_seed(0)
    return [draw(recipe, g) for _ in range(N)]


def assert_share(count, total, prob):
    """A binomial count lies within 4.5 standard deviations of its mean."""
    spread = math.sqrt(total * prob * (1 - prob))
    assert abs(count - total * prob) <= 4.5 * spread + 1e-9, (count / total, prob)


def assert_uniform(values, low, high):
    assert low <= min(values)
    assert max(values) <= high
    n, width = len(values), high - low
    assert abs(sum(values) / n - (low + high) / 2) <= 4.5 * width / math.sqrt(12 * n)
    for tenth in range(10):
        assert_share(
            sum(low + width * tenth / 10 <= v < low + width * (tenth + 1) / 10 for v in values), n, 0.1
        )


def test_blur_follows_the_published_probabilities(draws):
    kernels = [d.stage1.kernel for d in draws]
    assert all(kernels)
    kinds = Counter(k.kind for k in kernels)
    assert_share(kinds[KernelKind.sinc], N, 0.1)
    for kind, prob in zip(
        ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"),
        (0.45, 0.25, 0.12, 0.03, 0.12, 0.03),
        strict=True,
    ):
        assert_share(kinds[KernelKind(kind)], N, 0.9 * prob)
    for size in range(7, 22, 2):
        assert_share(sum(k.size == size for k in kernels), N, 1 / 8)
    blurs = [k for k in kernels if k.kind is not KernelKind.sinc]
    assert_uniform([k.sigma_x for k in blurs], 0.2, 3.0)
    assert_uniform([k.angle for k in blurs if k.kind is KernelKind.aniso], -math.pi, math.pi)
    assert all(k.sigma_x == k.sigma_y for k in blurs if k.kind.value.endswith("_iso"))
    second = [d.stage2.kernel for d in draws if d.stage2.kernel]
    assert_share(len(second), N, 0.8)
    assert_uniform([k.sigma_x for k in second if k.kind is not KernelKind.sinc], 0.2, 1.5)


def test_exponents_come_from_two_halves(draws):
    kernels = [k for d in draws for k in (d.stage1.kernel, d.stage2.kernel) if k]
    general = [k.beta for k in kernels if k.kind.value.startswith("generalized")]
    assert_share(sum(beta < 1 for beta in general), len(general), 0.5)
    assert_uniform([beta for beta in general if beta < 1], 0.5, 1.0)
    assert_uniform([beta for beta in general if beta > 1], 1.0, 4.0)
    plateau = [k.beta for k in kernels if k.kind.value.startswith("plateau")]
    assert_share(sum(beta == 1 for beta in plateau), len(plateau), 0.5)
    assert_uniform([beta for beta in plateau if beta > 1], 1.0, 2.0)


def test_sinc_cutoff_depends_on_the_width(draws):
    sincs = [k for d in draws for k in (d.stage1.kernel, d.stage2.kernel) if k and k.kind is KernelKind.sinc]
    assert_uniform([k.cutoff for k in sincs if k.size < 13], math.pi / 3, math.pi)
    assert_uniform([k.cutoff for k in sincs if k.size >= 13], math.pi / 5, math.pi)
    final = [d.final_sinc for d in draws if d.final_sinc]
    assert_share(len(final), N, 0.8)
    assert_uniform([k.cutoff for k in final], math.pi / 3, math.pi)


@pytest.mark.parametrize(
    ("stage", "up", "down", "keep", "low", "high"),
    [("stage1", 0.2, 0.7, 0.1, 0.15, 1.5), ("stage2", 0.3, 0.4, 0.3, 0.3, 1.2)],
)
def test_resize_follows_the_published_probabilities(draws, stage, up, down, keep, low, high):
    resizes = [getattr(d, stage).resize for d in draws]
    larger = [r.factor for r in resizes if r.factor > 1]
    smaller = [r.factor for r in resizes if r.factor < 1]
    assert_share(len(larger), N, up)
    assert_share(len(smaller), N, down)
    assert_share(N - len(larger) - len(smaller), N, keep)
    assert_uniform(larger, 1, high)
    assert_uniform(smaller, low, 1)
    for mode in ("area", "bilinear", "bicubic"):
        assert_share(sum(r.mode == mode for r in resizes), N, 1 / 3)


@pytest.mark.parametrize(("stage", "sigma", "scale"), [("stage1", 30, 3.0), ("stage2", 25, 2.5)])
def test_noise_and_jpeg_follow_the_published_probabilities(draws, stage, sigma, scale):
    noises = [getattr(d, stage).noise for d in draws]
    gaussian = [n.amount for n in noises if n.gaussian]
    assert_share(len(gaussian), N, 0.5)
    assert_uniform(gaussian, 1, sigma)
    assert_uniform([n.amount for n in noises if not n.gaussian], 0.05, scale)
    assert_share(sum(n.grey for n in noises), N, 0.4)
    assert len({n.seed for n in noises}) == N
    qualities = Counter(getattr(d, stage).jpeg_quality for d in draws)
    assert set(qualities) == set(range(30, 96))
    assert_share(sum(n for q, n in qualities.items() if q < 63), N, 0.5)


def test_order_and_size(draws):
    assert_share(sum(d.resize_before_jpeg for d in draws), N, 0.5)
    assert all(d.stage2_scale == 4 and d.resize_back for d in draws)
    assert not any(d.halftone or d.fade or d.scratches for d in draws)


def test_the_draw_depends_on_the_generator_alone():
    recipe = load_recipe("old-photo")
    first = [draw(recipe, torch.Generator().manual_seed(s)) for s in range(10)]
    assert first == [draw(recipe, torch.Generator().manual_seed(s)) for s in range(10)]
    assert len(set(first)) == 10


def test_sharpening_has_the_published_numbers():
    sharpen = load_recipe("realesrgan").sharpen
    assert to_plain(sharpen) == {"weight": 0.5, "size": 51, "sigma": 8.0, "threshold": 10.0}


def test_parts_of_probability_zero_and_of_weight_zero_never_happen():
    only_plateau = dict.fromkeys(KernelMix().as_weights(), 0.0) | {"plateau_aniso": 1e-3}
    stage = Stage(
        blur=Blur(sinc_prob=0, mix=KernelMix(**only_plateau)),
        resize=Resize(up=0, down=0, keep=1, factor=(0.1, 2)),
        noise=Noise(prob=0),
        jpeg=Jpeg(prob=0),
    )
    g = torch.Generator().manual_seed(0)
    for _ in range(50):
        d = draw(Recipe(stage1=stage), g)
        assert d.stage1.kernel is not None
        assert d.stage1.kernel.kind is KernelKind.plateau_aniso
        assert d.stage1.resize is not None
        assert d.stage1.resize.factor == 1
        assert d.stage1.noise is None
        assert d.stage1.jpeg_quality is None
        assert d.stage2 == draw(Recipe(), g).stage2


def test_presets_are_listed_and_say_how_they_are_used():
    from hypir_core.config import PRESETS

    assert recipe_names() == ("jpeg-web", "light", "old-photo", "realesrgan", "scan")
    for name in recipe_names():
        first = (PRESETS / "degrade" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("# hypir degrade photo.jpg -o ")
        assert first.endswith(f" --preset {name}")
        assert load_recipe(name) != Recipe()


def test_a_file_and_overrides(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("stage1: {jpeg: {quality: [10, 20]}}\n", encoding="utf-8")
    expected = Recipe(stage1=Stage(jpeg=Jpeg(quality=(10, 20))))
    assert load_recipe(path) == load_recipe(str(path)) == expected
    assert load_recipe("realesrgan", {"sharpen": None, "stage1": {"jpeg": None}}).sharpen is None
    assert load_recipe("light", {"stage2_scale": [2, 4]}).stage2_scale == (2.0, 4.0)


def test_unknown_name_and_missing_file(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'realesrgan'"):
        load_recipe("realesrgn")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")


def test_every_mistake_is_listed_at_once(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "stage1:\n"
        "  blurr: {prob: 1}\n"
        "  noise: {sigma: [9, 3], grey_prob: 2}\n"
        "  jpeg: {quality: [0, 95]}\n"
        "stage2: {resize: {up: 1, down: 1, keep: 1, factor: [0.5, 0.9]}}\n"
        "final_sinc: {sizes: [8]}\n"
        "final_modes: [lanczos]\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    told = str(caught.value)
    for part in (
        "unknown key 'stage1.blurr' (did you mean 'blur'?)",
        "sigma: expected [low, high] with 0 <= low <= high <= 255, got [9.0, 3.0]",
        "grey_prob: expected a probability from 0 to 1, got 2",
        "quality: expected [low, high] with 1 <= low <= high <= 100, got [0, 95]",
        "factor: expected a range that encloses 1, got [0.5, 0.9]",
        "sizes: expected odd widths from 1 to 255, got [8]",
        "final_modes",
        "bicubic_antialias",
    ):
        assert part in told, told


def test_weights_must_allow_something():
    with pytest.raises(ConfigError, match="at least one weight must be above 0"):
        Resize(up=0, down=0, keep=0)
    with pytest.raises(ConfigError, match="iso: expected a weight of 0 or more, got -1"):
        KernelMix(iso=-1)
