"""What coders hold, learnt from descriptors (M, D) of training pictures: words by k-means, mixtures of Gaussians."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from foveate.errors import DataError
from foveate.zoo.composed.coders import Coder, Fisher, Words

PATCH_NOISE = 0.1  # added to the eigenvalues before whitening (Coates, Lee and Ng, for patches of 0 to 255)
LEAST_VARIANCE = 1e-4  # of a component, of the mean variance of the descriptors
ROUNDS = 20  # of k-means over all descriptors

State = Mapping[str, torch.Tensor]


def learn_words(coder: Words, descriptors: np.ndarray, seed: int, whiten: bool) -> State:
    """centre, whiten and dictionary of a coder of words. Empty words are drawn again by k-means itself.

    whiten: descriptors are decorrelated first (ZCA), as patches want it; else they are taken as they are.
    """
    from sklearn.cluster import MiniBatchKMeans

    x = descriptors.astype(np.float64)
    if len(x) < coder.words:
        raise DataError(f"{len(x):,} descriptors for {coder.words:,} words: give more pictures, or fewer words")
    centre, matrix = np.zeros(x.shape[1]), np.eye(x.shape[1])
    if whiten:
        centre = x.mean(0)
        values, vectors = np.linalg.eigh(np.cov(x.T))
        matrix = vectors @ np.diag(1 / np.sqrt(np.maximum(values, 0) + PATCH_NOISE)) @ vectors.T
    turned = ((x - centre) @ matrix).astype(np.float32)
    means = MiniBatchKMeans(
        coder.words, batch_size=4096, max_iter=ROUNDS, n_init=1, random_state=seed, reassignment_ratio=0.01
    ).fit(turned)
    return _tensors(centre=centre, whiten=matrix, dictionary=means.cluster_centers_)


def learn_mixture(coder: Fisher, descriptors: np.ndarray, seed: int) -> State:
    """The projection and the Gaussians of a Fisher coder."""
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    x = descriptors.astype(np.float64)
    if len(x) < 4 * coder.components:
        raise DataError(
            f"{len(x):,} descriptors for {coder.components} Gaussians: give more pictures, or fewer of them"
        )
    pca = PCA(coder.pca, random_state=seed).fit(x)
    turned = pca.transform(x)
    floor = LEAST_VARIANCE * float(turned.var(0).mean()) + 1e-9
    mixture = GaussianMixture(
        coder.components, covariance_type="diag", reg_covar=floor, random_state=seed, max_iter=100
    )
    mixture.fit(turned)
    return _tensors(
        centre=pca.mean_,
        basis=pca.components_.T,
        weights=np.maximum(mixture.weights_, 1e-6),
        means=mixture.means_,
        deviations=np.sqrt(mixture.covariances_),
    )


def learn_coder(coder: Coder, descriptors: Callable[[], np.ndarray], seed: int, whiten: bool) -> State:
    """What a coder holds; nothing where it learns nothing. descriptors: (M, D), drawn only where they are wanted."""
    if isinstance(coder, Words):
        return learn_words(coder, descriptors(), seed, whiten)
    if isinstance(coder, Fisher):
        return learn_mixture(coder, descriptors(), seed)
    return {}


def _tensors(**arrays: np.ndarray) -> State:
    return {name: torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)) for name, a in arrays.items()}
