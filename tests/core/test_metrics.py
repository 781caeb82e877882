"""PSNR, SSIM, MS-SSIM, LPIPS, seams and folders against closed forms and independent libraries."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from hypir_core.errors import ConfigError, ShapeError, WeightsError, WeightsNotFoundError
from hypir_core.metrics import fidelity
from hypir_core.metrics.fidelity import luma, ms_ssim, psnr, psnr_y, ssim
from hypir_core.metrics.folder import evaluate_folders
from hypir_core.metrics.perceptual import load_lpips, why_no_lpips
from hypir_core.metrics.seams import seam_measure


def photo_like(height, width, *, batch=1, seed=0):
    """Smooth colour noise with some grain, and a blurred, noisier copy of it."""
    rng = np.random.default_rng(seed)
    truth = ndimage.gaussian_filter(rng.random((batch, 3, height, width)), (0, 0, 2, 2))
    truth = (truth - truth.min()) / (truth.max() - truth.min())
    image = ndimage.gaussian_filter(truth, (0, 0, 1, 1)) + rng.normal(0, 0.02, truth.shape)
    return torch.from_numpy(image.clip(0, 1)).float(), torch.from_numpy(truth).float()


def test_psnr_of_a_known_error():
    truth = torch.full((2, 3, 10, 12), 0.5)
    image = truth.clone()
    image[0] += 0.1
    image[1] += 0.01
    torch.testing.assert_close(psnr(image, truth), torch.tensor([20.0, 40.0]), atol=1e-3, rtol=0)
    assert psnr(truth, truth).isinf().all()


def test_psnr_agrees_with_skimage_and_leaves_the_border_out():
    image, truth = photo_like(40, 50)
    expected = peak_signal_noise_ratio(
        truth[..., 4:-4, 4:-4].numpy(), image[..., 4:-4, 4:-4].numpy(), data_range=1
    )
    assert psnr(image, truth, crop_px=4).item() == pytest.approx(expected, abs=1e-3)


def test_luma_spans_the_studio_range_and_takes_grey_as_equal_channels():
    black_white = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(-1, 3, 2, 2)
    torch.testing.assert_close(luma(black_white)[:, 0, 0, 0], torch.tensor([16 / 255, 235 / 255]))
    grey = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(luma(grey), luma(grey.expand(-1, 3, -1, -1)))


def test_psnr_y_agrees_with_skimages_ycbcr():
    from skimage.color import rgb2ycbcr

    image, truth = photo_like(33, 44)
    planes = [rgb2ycbcr(x[0].permute(1, 2, 0).numpy())[..., 0] for x in (truth, image)]
    expected = peak_signal_noise_ratio(*planes, data_range=255)
    assert psnr_y(image, truth).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("strip_pixels", [300, 700, 1 << 22])
def test_ssim_agrees_with_skimage_whatever_the_strips(strip_pixels, monkeypatch):
    monkeypatch.setattr(fidelity, "STRIP_PIXELS", strip_pixels)
    image, truth = photo_like(37, 52, batch=2)
    expected = [
        structural_similarity(
            t[0].numpy(),
            i[0].numpy(),
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for i, t in zip(luma(image).double(), luma(truth).double(), strict=True)
    ]
    np.testing.assert_allclose(ssim(image, truth), expected, atol=2e-5)


def ms_ssim_by_definition(image, truth):
    """Wang, Simoncelli, Bovik 2003 in float64 on luma planes [h w], windows inside the picture only."""
    product = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            h, w = (side // 2 * 2 for side in image.shape)
            image, truth = (x[:h, :w].reshape(h // 2, 2, w // 2, 2).mean((1, 3)) for x in (image, truth))

        def window(x):
            return ndimage.gaussian_filter(x, 1.5, truncate=3.5)[5:-5, 5:-5]

        mean_i, mean_t = window(image), window(truth)
        var_i, var_t = window(image**2) - mean_i**2, window(truth**2) - mean_t**2
        cov = window(image * truth) - mean_i * mean_t
        term = (2 * cov + 0.03**2) / (var_i + var_t + 0.03**2)
        if scale == 4:
            term = term * (2 * mean_i * mean_t + 0.01**2) / (mean_i**2 + mean_t**2 + 0.01**2)
        product *= term.mean() ** weight
    return product


def test_ms_ssim_follows_its_definition_and_stays_close_to_torchmetrics():
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    image, truth = photo_like(181, 199)
    image_y, truth_y = (luma(x)[0, 0].double().numpy() for x in (image, truth))
    ours = ms_ssim(image, truth).item()
    assert ours == pytest.approx(ms_ssim_by_definition(image_y, truth_y), abs=2e-5)
    # torchmetrics lets reflected windows count at the coarsest scale.
    theirs = multiscale_structural_similarity_index_measure(luma(image), luma(truth), data_range=1.0)
    assert ours == pytest.approx(theirs.item(), abs=0.01)


def test_equal_pictures_score_one():
    _, truth = photo_like(176, 180)
    assert ssim(truth, truth).item() == pytest.approx(1, abs=1e-6)
    assert ms_ssim(truth, truth).item() == pytest.approx(1, abs=1e-6)


def test_bad_pictures_are_named():
    small = torch.zeros(1, 3, 10, 300)
    with pytest.raises(ShapeError, match="SSIM needs sides of at least 11 px, got 300×10"):
        ssim(small, small)
    with pytest.raises(ShapeError, match="MS-SSIM needs sides of at least 176 px"):
        ms_ssim(torch.zeros(1, 3, 175, 300), torch.zeros(1, 3, 175, 300))
    with pytest.raises(ShapeError, match="same size"):
        psnr(small, torch.zeros(1, 3, 10, 299))
    with pytest.raises(ShapeError, match="5 px cannot be cropped"):
        psnr(small, small, crop_px=5)
    with pytest.raises(ShapeError, match="luma needs"):
        psnr_y(torch.zeros(1, 4, 9, 9), torch.zeros(1, 4, 9, 9))


def test_a_ramp_has_no_seam_and_a_step_has_its_height():
    ramp = torch.arange(32.0).reshape(1, 1, 1, 32).expand(1, 2, 24, 32).clone()
    assert seam_measure(ramp, [], [8, 16]) == pytest.approx(1)
    ramp[..., 16:] += 3  # the step across column 16 is 4 instead of 1
    assert seam_measure(ramp, [], [16]) == pytest.approx(4)
    assert seam_measure(ramp, [], [8, 16]) == pytest.approx(2.5)
    assert seam_measure(ramp.mT, [16], []) == pytest.approx(4)


def test_seams_are_compared_with_gradients_of_their_own_direction():
    stripes = torch.arange(40.0).reshape(1, 1, 40, 1).expand(1, 1, 40, 60).clone()
    stripes += 0.01 * torch.arange(60.0)
    assert seam_measure(stripes, [20], [30]) == pytest.approx(1, abs=1e-4)
    assert seam_measure(torch.zeros(1, 1, 8, 8), [4], [4]) == 1
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:, :] = 1
    assert seam_measure(step, [4], []) == math.inf


@pytest.mark.parametrize(
    ("rows", "cols", "match"),
    [
        ([], [], "no border"),
        ([0], [], "from 1 to 7"),
        ([], [8], "from 1 to 7"),
        (range(1, 8), [], "every line"),
    ],
)
def test_seam_lines_must_lie_inside_the_picture(rows, cols, match):
    with pytest.raises(ShapeError, match=match):
        seam_measure(torch.zeros(1, 1, 8, 8), rows, cols)


@pytest.fixture
def hub(tmp_path):
    """An empty torch hub folder."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


@pytest.fixture
def alexnet(hub):
    """Random AlexNet weights where torchvision keeps its downloads; the unused classifier takes no room."""
    import torchvision

    with torch.device("meta"):
        shapes = {
            key: value.shape for key, value in torchvision.models.alexnet(weights=None).state_dict().items()
        }
    generator = torch.Generator().manual_seed(0)
    state = {
        key: torch.randn(shape, generator=generator) * math.prod(shape[1:]) ** -0.5
        if key.startswith("features")
        else torch.zeros(1).expand(shape)
        for key, shape in shapes.items()
    }
    hub.mkdir(parents=True)
    torch.save(state, hub / "alexnet-owt-7be5be79.pth")


def test_without_weights_lpips_says_where_they_belong_and_how_to_get_them(hub):
    reason = why_no_lpips()
    assert reason is not None
    assert str(hub / "alexnet-owt-7be5be79.pth") in reason
    assert "alexnet(weights='IMAGENET1K_V1')" in reason
    with pytest.raises(WeightsNotFoundError, match="AlexNet"):
        load_lpips()


@pytest.mark.filterwarnings("ignore:.*'pretrained'", "ignore:Arguments other than a weight enum")
def test_lpips_with_weights_agrees_with_its_authors_package(alexnet):
    import lpips as authors

    assert why_no_lpips() is None
    image, truth = photo_like(70, 80, batch=2)
    ours = load_lpips()(image, truth)
    theirs = authors.LPIPS(net="alex", verbose=False)(image, truth, normalize=True).flatten()
    assert ours.shape == (2,)
    assert (ours > 0).all()
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(load_lpips()(truth, truth), torch.zeros(2))


def test_a_damaged_weight_file_is_named(hub):
    hub.mkdir(parents=True)
    (hub / "alexnet-owt-7be5be79.pth").write_bytes(b"not a weight file")
    with pytest.raises(WeightsError, match="no readable AlexNet weights; delete it"):
        load_lpips()


def save(path, image_01):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image_01[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels.squeeze()).save(path)


@pytest.fixture
def folders(tmp_path, hub):
    return tmp_path / "true", tmp_path / "restored"


def test_folders_are_paired_by_stem_and_averaged(folders):
    ref_dir, out_dir = folders
    image, truth = photo_like(180, 190)
    save(ref_dir / "a.bmp", truth)
    save(out_dir / "a.png", image)
    tiny = truth[..., :8, :20]
    save(ref_dir / "day" / "b.png", tiny)
    save(out_dir / "day" / "b.bmp", tiny)
    (out_dir / "manifest.jsonl").write_text("{}")
    seen = []
    evaluation = evaluate_folders(ref_dir, out_dir, on_row=seen.append)
    first, second = evaluation.rows
    assert seen == [first, second]
    assert (first.name, second.name) == ("a.png", "day/b.bmp")
    as_saved = [(x * 255).round() / 255 for x in (image, truth)]
    assert first.psnr_y_db == pytest.approx(psnr_y(*as_saved).item(), abs=1e-4)
    assert first.ssim == pytest.approx(ssim(*as_saved).item(), abs=1e-6)
    assert first.ms_ssim == pytest.approx(ms_ssim(*as_saved).item(), abs=1e-6)
    assert (second.psnr_y_db, second.ssim, second.ms_ssim) == (math.inf, None, None)
    mean = evaluation.mean()
    assert mean is not None
    assert (mean.psnr_y_db, mean.ssim, mean.lpips) == (math.inf, first.ssim, None)
    assert evaluation.problems == ()
    assert evaluation.why_no_lpips == why_no_lpips() is not None
    printed = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert printed["rows"][1]["psnr_y_db"] is None
    assert printed["mean"]["ssim"] == first.ssim


def test_lpips_joins_the_table_when_its_weights_are_there(folders, alexnet):
    ref_dir, out_dir = folders
    image, truth = photo_like(64, 70)
    save(ref_dir / "a.png", truth)
    save(out_dir / "a.png", image)
    evaluation = evaluate_folders(ref_dir, out_dir)
    assert evaluation.why_no_lpips is None
    image_01, truth_01 = ((x * 255).round() / 255 for x in (image, truth))
    assert evaluation.rows[0].lpips == pytest.approx(load_lpips()(image_01, truth_01).item(), rel=1e-4)


def test_grey_is_compared_with_colour(folders):
    ref_dir, out_dir = folders
    grey = photo_like(20, 20)[1][:, :1]
    save(ref_dir / "a.png", grey)
    save(out_dir / "a.png", grey.expand(-1, 3, -1, -1))
    assert evaluate_folders(ref_dir, out_dir).rows[0].psnr_y_db == math.inf


def test_the_border_can_be_left_out(folders):
    ref_dir, out_dir = folders
    truth = photo_like(30, 30)[1]
    framed = truth.clone()
    framed[..., :2, :] = 0
    save(ref_dir / "a.png", truth)
    save(out_dir / "a.png", framed)
    assert evaluate_folders(ref_dir, out_dir).rows[0].psnr_y_db < 40
    assert evaluate_folders(ref_dir, out_dir, crop_px=2).rows[0].psnr_y_db == math.inf


def test_unlike_sizes_and_unreadable_files_are_named_and_the_rest_is_measured(folders):
    ref_dir, out_dir = folders
    truth = photo_like(40, 30)[1]
    for name in ("a.png", "b.png", "c.png"):
        save(ref_dir / name, truth)
        save(out_dir / name, truth)
    save(out_dir / "a.png", truth[..., :20])
    (out_dir / "b.png").write_text("no picture")
    evaluation = evaluate_folders(ref_dir, out_dir)
    assert [row.name for row in evaluation.rows] == ["c.png"]
    assert len(evaluation.problems) == 2
    assert "20×40 and 30×40" in evaluation.problems[0]
    assert "b.png" in evaluation.problems[1]


def test_pictures_without_a_partner_are_all_named(folders):
    ref_dir, out_dir = folders
    truth = photo_like(12, 12)[1]
    for path in (ref_dir / "a.png", ref_dir / "b.png", out_dir / "b.png", out_dir / "c.png"):
        save(path, truth)
    with pytest.raises(ConfigError) as caught:
        evaluate_folders(ref_dir, out_dir)
    assert len(caught.value.problems) == 2
    assert "no picture called 'a'" in caught.value.problems[0]
    assert "no picture called 'c'" in caught.value.problems[1]


def test_bad_folders_are_named(folders):
    ref_dir, out_dir = folders
    with pytest.raises(ConfigError, match="expected a folder of pictures, got nothing"):
        evaluate_folders(ref_dir, out_dir)
    ref_dir.mkdir()
    with pytest.raises(ConfigError, match="expected pictures, found none"):
        evaluate_folders(ref_dir, out_dir)
    truth = photo_like(12, 12)[1]
    save(ref_dir / "a.png", truth)
    save(ref_dir / "a.bmp", truth)
    with pytest.raises(ConfigError, match="the same name; keep one"):
        evaluate_folders(ref_dir, out_dir)
