"""What the care of pictures finds on photographs with planted faults: "Care of the pictures" of docs/benchmarks.md.

    python scripts/benchmarks/review.py FOLDER [--parts labels,copies,scale,next,maps,oracles]

FOLDER: train/ validation/ test/ with class folders (the figures are of clothing-dataset-small, 3,781 photographs of ten
kinds of clothes). Needs the extra lite; labels is compared with cleanlab, oracles with captum and torchcam, where they
are installed. Features of all pictures are computed once.
"""

import argparse
import resource
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.linear_model import LogisticRegression

from foveate.data.gate.near import near_groups, thumbnail
from foveate.data.preprocess import normalise, prepare
from foveate.data.read.decode import opened
from foveate.trust import align
from foveate.trust.duplicates import close_pairs, duplicate_groups
from foveate.trust.heat import heat
from foveate.trust.label_next import least_certain, margins
from foveate.trust.occlusion import check
from foveate.trust.suspects import out_of_fold, probabilities, suspects
from foveate.workflows.review.features import describer
from foveate.workflows.review.look import Looked, hold, look
from foveate.workflows.review.run import _lit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", default="labels,copies,scale,next,maps,oracles")
    options = parser.parse_args()
    parts = options.parts.split(",")
    torch.set_num_threads(1)
    if set(parts) & {"labels", "copies", "next", "maps"}:
        start = time.process_time()
        looked = look(hold(options.folder), describer(None, 256))
        print(f"features of {len(looked.features):,} pictures: {time.process_time() - start:.0f} CPU s")
        labels = np.unique([item.label for item in looked.held.items], return_inverse=True)[1]
    for part in parts:
        if part == "labels":
            planted_labels(looked.features, labels)
        elif part == "copies":
            planted_copies(looked)
        elif part == "scale":
            many_pictures()
        elif part == "next":
            label_next(looked, labels)
        elif part == "maps":
            maps(looked, labels)
        elif part == "oracles":
            oracles()


def planted_labels(features: np.ndarray, labels: np.ndarray) -> None:
    """5 % of 1,200 labels changed at random; how many are among the first 60 and 120."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        picks = rng.permutation(len(labels))[:1200]
        planted = rng.choice(1200, 60, replace=False)
        given = labels[picks].copy()
        given[planted] = (given[planted] + rng.integers(1, 10, 60)) % 10
        start = time.process_time()
        p = out_of_fold(features[picks], given)
        order = np.array([s.place for s in suspects(p, given)])
        spent = time.process_time() - start
        print(f"labels, seed {seed}: {_hits(order, planted)}, {spent:.1f} CPU s")
        try:
            from cleanlab.filter import find_label_issues
            from cleanlab.rank import get_label_quality_scores
        except ImportError:
            continue
        for kind in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
            ranked = np.argsort(get_label_quality_scores(given, p, method=kind))
            print(f"  cleanlab {kind}, on our probabilities: {_hits(ranked, planted)}")
        simple = _plain_probabilities(features[picks], given)
        ranked = np.argsort(get_label_quality_scores(given, simple))
        print(f"  cleanlab self_confidence, on a plain logistic regression of scikit-learn: {_hits(ranked, planted)}")
        flagged = find_label_issues(given, p, return_indices_ranked_by="self_confidence")
        print(f"  cleanlab find_label_issues flags {len(flagged)}, {np.isin(flagged, planted).sum()} of 60 planted")


def _plain_probabilities(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100, tol=1e-2))
    return np.asarray(cross_val_predict(model, features, labels, cv=5, method="predict_proba"))


def _hits(order: np.ndarray, planted: np.ndarray) -> str:
    hit = np.isin(order, planted)
    return f"precision in 60 {hit[:60].mean():.2f}, recall in 120 {hit[:120].sum() / len(planted):.2f}"


def _cropped(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    w, h = round(image.width * (1 - share)), round(image.height * (1 - share))
    x, y = rng.integers(0, image.width - w + 1), rng.integers(0, image.height - h + 1)
    return image.crop((x, y, x + w, y + h))


def _lighter(image: Image.Image, factor: float) -> Image.Image:
    return Image.fromarray(np.clip(np.asarray(image, np.float32) * factor, 0, 255).astype(np.uint8))


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(BytesIO(file.getvalue())).convert("RGB")


def planted_copies(looked: Looked) -> None:
    """250 photographs and one changed copy of each: how many copies are found, and how many wrong pairs."""
    rng = np.random.default_rng(0)
    picks = np.sort(rng.choice(len(looked.features), 250, replace=False))
    changes: dict[str, Callable[[Image.Image], Image.Image]] = {
        "crop 2.5 %": lambda i: _cropped(i, 0.025, rng),
        "crop 10 %": lambda i: _cropped(i, 0.1, rng),
        "light +15 %": lambda i: _lighter(i, 1.15),
        "light +25 %": lambda i: _lighter(i, 1.25),
        "turned 5 degrees": lambda i: i.rotate(5, Image.Resampling.BICUBIC),
        "mirrored": ImageOps.mirror,
        "JPEG quality 30": lambda i: _jpeg(i, 30),
        "half the size": lambda i: i.resize((i.width // 2, i.height // 2), Image.Resampling.BICUBIC),
    }
    images = []
    for place in picks:
        with opened(looked.held.items[place].path) as image:
            images.append(image.copy())
    how = describer(None, 256)
    labels = np.unique([looked.held.items[i].label for i in picks], return_inverse=True)[1]
    twice = np.concatenate((labels, labels))
    for name, change in changes.items():
        copies = [change(image) for image in images]
        features = np.concatenate(
            [how.describe([how.prepare(c) for c in copies[i : i + 50]]) for i in range(0, 250, 50)]
        )
        thumbs = np.concatenate((looked.thumbs[picks], np.stack([thumbnail(c) for c in copies])))
        small = np.concatenate((looked.copies[picks], np.stack([align.small(c) for c in copies])))
        both = np.concatenate((looked.features[picks], features))
        start = time.process_time()
        groups = duplicate_groups(both, small, twice, near_groups(thumbs), near_groups(_lit(thumbs)))
        spent = time.process_time() - start
        pairs = {(a, b) for g in groups for a in g.places for b in g.places if a < b}
        found = sum((i, i + 250) in pairs for i in range(250))
        wrong = {(a % 250, b % 250) for a, b in pairs if b - a != 250}
        hashed = sum(any(i in g and i + 250 in g for g in near_groups(thumbs)) for i in range(250))
        print(f"{name}: {found / 250:.3f} found (hash alone {hashed / 250:.3f}), {len(wrong)} wrong, {spent:.1f} CPU s")


def many_pictures() -> None:
    """100,000 made-up vectors of 1,280 numbers, 500 of them near another one."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((10_000, 1280), dtype=np.float32) for _ in range(10)])
    x[99_000:99_500] = x[:500] + 0.2 * rng.standard_normal((500, 1280), dtype=np.float32)
    start = time.process_time()
    left, right, _ = close_pairs(x, 0.9)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = int((right - left == 99_000).sum())
    print(f"100,000 x 1,280: {time.process_time() - start:.0f} CPU s, {peak:.1f} GB, {found} of 500, {len(left)} pairs")


def label_next(looked: Looked, labels: np.ndarray) -> None:
    """Accuracy on the test split of a linear classifier with so many labels, chosen at random or by margin."""
    splits = np.array([item.split for item in looked.held.items])
    pool, test = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")
    f, right = looked.features, labels[test]
    ways = {"random": None, "margin, spread": True, "margin": False}
    table = {way: {n: [] for n in (50, 100, 200, 400)} for way in ways}
    for seed in range(5):
        for way, spread in ways.items():
            rng = np.random.default_rng(seed)
            order = rng.permutation(pool)
            held = order[:50]
            for n in (50, 100, 200, 400):
                while len(held) < n:
                    rest = order[~np.isin(order, held)]
                    want = min(50, n - len(held))
                    if spread is None:
                        more = rest[:want]
                    else:
                        classes, places = np.unique(labels[held], return_inverse=True)
                        p = probabilities(f[held], places, f[rest])
                        more = rest[least_certain(p, f[rest], want, seed) if spread else np.argsort(margins(p))[:want]]
                    held = np.concatenate((held, more))
                classes, places = np.unique(labels[held], return_inverse=True)
                guess = classes[probabilities(f[held], places, f[test]).argmax(1)]
                table[way][n].append(float((guess == right).mean()))
    for way, row in table.items():
        print(f"{way}: " + ", ".join(f"{n} {np.mean(v):.3f} (sd {np.std(v, ddof=1):.3f})" for n, v in row.items()))


def maps(looked: Looked, labels: np.ndarray, most: int = 372) -> None:
    """Right answers of EfficientNet-Lite0 with a linear head: does covering the marked quarter drop more?"""
    from foveate.config import replace
    from foveate.data.preprocess import Preprocess
    from foveate.train.intervals import wilson
    from foveate.zoo import create_model
    from foveate.zoo.weights import weights_info

    splits = np.array([item.split for item in looked.held.items])
    train, test = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")[:most]
    scale = float(np.sqrt(np.square(looked.features).sum(1).mean()))
    head = LogisticRegression(C=4, max_iter=200, tol=1e-3).fit(looked.features[train] / scale, labels[train])
    model = create_model("efficientnet_lite0", num_classes=10, weights="lite").eval()
    with torch.no_grad():
        model.classifier.weight.copy_(torch.from_numpy(head.coef_ / scale))
        model.classifier.bias.copy_(torch.from_numpy(head.intercept_))
    preprocess = replace(Preprocess(), **weights_info(model.config, "lite"))
    methods = ("cam", "gradcam++", "layercam", "centred")
    better, right = dict.fromkeys(methods, 0), 0
    drops: dict[str, list[float]] = {name: [] for name in (*methods, "random")}
    chance = 0.0
    bump = torch.exp(-((torch.arange(7) - 3.0) ** 2) / 4.5)
    for i in test:
        with opened(looked.held.items[i].path) as image:
            x = normalise(torch.from_numpy(prepare(image, preprocess)).permute(2, 0, 1)[None], preprocess)
        with torch.inference_mode(False):
            found = {name: heat(model, x, None, name) for name in methods[:-1]}
        if int(found["cam"].logits.argmax()) != labels[i]:
            continue
        right += 1
        for name in methods:
            values = bump[:, None] * bump[None] if name == "centred" else found[name].values[0]
            tried = check(model, x[0], int(labels[i]), values, seed=int(i), draws=20 if name == "cam" else 0)
            chance = tried.random if name == "cam" else chance
            better[name] += tried.marked > chance
            drops[name].append(tried.marked)
        drops["random"].append(chance)
    print(f"accuracy {right / len(test):.3f} of {len(test)}; drop of a random quarter {np.mean(drops['random']):.3f}")
    for name in methods:
        low, high = wilson(better[name], right)
        share = f"{better[name] / right:.3f} ({low:.3f} to {high:.3f})"
        print(f"{name}: drop {np.mean(drops[name]):.3f}, above chance {share}")


def oracles() -> None:
    """The largest difference of maps, over their largest value, from captum's and torchcam's, in six families."""
    from captum.attr import LayerGradCam
    from torchcam.methods import GradCAM, LayerCAM

    from foveate.zoo import create_model

    class Split(torch.nn.Module):
        def __init__(self, net: torch.nn.Module) -> None:
            super().__init__()
            self.net, self.last = net, torch.nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net.forward_head(self.last(self.net.forward_features(x)))

    for name in ("resnet18", "mobilenet_v2", "densenet121", "alexnet", "vgg11_bn", "regnet_y_400mf"):
        torch.manual_seed(0)
        net = create_model(name, num_classes=7).eval()
        split, x = Split(net), torch.randn(1, 3, 224, 224)
        cls = int(net(x).argmax())
        said = [f"{name} ({heat(net, x).method})"]
        ours = heat(net, x, torch.tensor([cls]), "gradcam").values
        theirs = LayerGradCam(split, split.last).attribute(x, cls, relu_attributions=True)[:, 0].detach()
        said.append(f"captum Grad-CAM {_apart(ours, theirs):.1e}")
        for kind, method in ((GradCAM, "gradcam"), (LayerCAM, "layercam")):
            with kind(split, split.last) as camera:
                scores = split(x)
                theirs = camera(cls, scores, normalized=False)[0].detach()
            ours = heat(net, x, torch.tensor([cls]), method).values
            said.append(f"torchcam {kind.__name__} {_apart(ours, theirs):.1e}")
        print(", ".join(said), f"largest {float(ours.max()):.2g}")


def _apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs.reshape(ours.shape)).abs().max() / ours.abs().max().clamp_min(1e-12))


if __name__ == "__main__":
    main()
