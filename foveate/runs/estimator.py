"""FoveateClassifier: a network of the zoo as an estimator of scikit-learn, for arrays or pictures with labels.

It takes part in scikit-learn by its protocol (get_params, set_params, __sklearn_tags__), not by its base classes: those
would load scikit-learn with every import of foveate.
"""

import inspect
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import numpy as np

from foveate.data.picture import Picture
from foveate.deploy.classifier import Classifier, load
from foveate.errors import ConfigError
from foveate.events import Listener
from foveate.report.progress import hear
from foveate.runs.labelled_arrays import dataset_of, pictures_of
from foveate.runs.plan import prepare
from foveate.runs.training import Start, train_in
from foveate.train.recipe import Recipe

if TYPE_CHECKING:
    from sklearn.utils import Tags

Pictures: TypeAlias = np.ndarray | Sequence[Picture]
SMALL = 64  # pixels: up to here the network for small pictures is the default
FILES = ("config.json", "model.safetensors")


class FoveateClassifier:
    """A network trained on labelled pictures: fit(X, y), predict, predict_proba, score, as scikit-learn has them.

    model: a name of the zoo or a model folder; None: resnet20_cifar for pictures up to 64 px, else resnet18. recipe: a
    name, a file or a value; None: what suits the pictures. epochs: None: the recipe's. time_s: wall time of the
    training, about; None: no limit. weights: "auto", "none", or a source as in foveate.train. overrides: changes such
    as "optim.lr=0.01". shape: (height, width) of pictures that come as rows; None: the smallest square that a row fits
    into. random_state: an int; None: 0. progress: whether lines come on stderr. device: "auto", "cpu", "cuda", "mps".

    X: uint8 or float arrays (n, h, w) or (n, h, w, 3); rows (n, features), which are pictures of `shape`; or a list of
    paths, bytes, arrays or PIL images of any sizes. Numbers other than uint8 are scaled from the smallest and the
    largest of the training pictures to 0..255. A tenth of the pictures, stratified, chooses the best epoch.

    After fit: classes_ (sorted labels), n_features_in_ (numbers a picture, of arrays), classifier_ (what foveate.load
    gives). Pickling keeps parameters, labels, and the model as the bytes of config.json and model.safetensors: no
    network object, and nothing of it runs when it is read; still read no pickle of a stranger. fit raises ValueError
    for what is no picture or no label, else what foveate.train raises.

        clf = fv.FoveateClassifier(epochs=5).fit(pictures, labels)   # (n, 28, 28), (n,)
        clf.score(more_pictures, more_labels)                        # 0.97
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        recipe: str | Recipe | None = None,
        epochs: int | None = None,
        time_s: float | None = None,
        weights: str | None = "auto",
        overrides: Sequence[str] = (),
        shape: tuple[int, int] | None = None,
        random_state: int | None = None,
        device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
        progress: bool = False,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.epochs = epochs
        self.time_s = time_s
        self.weights = weights
        self.overrides = overrides
        self.shape = shape
        self.random_state = random_state
        self.device = device
        self.progress = progress

    def fit(
        self,
        X: Pictures,  # noqa: N803
        y: Sequence[object] | np.ndarray,
        listener: Listener | None = None,
    ) -> "FoveateClassifier":
        """Train on pictures with their labels, and return self. Fitting again starts anew."""
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import check_consistent_length, column_or_1d

        from foveate.runs.devices import check_device

        if y is None:
            raise ValueError("FoveateClassifier: requires y to be passed, but the target y is None")
        seen = pictures_of(X, self, shape=self.shape, fitting=True)
        labels = column_or_1d(np.asarray(y), warn=True)
        check_consistent_length(seen.pictures, labels)
        check_classification_targets(labels)
        classes, index = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError("FoveateClassifier: y has 1 class; at least two classes are needed")
        listener = hear(listener, self.progress)
        seed = self._seed()
        with tempfile.TemporaryDirectory(prefix="foveate-") as scratch:
            data = dataset_of(seen, index, tuple(map(str, range(len(classes)))), seed, Path(scratch))
            network = self.model or ("resnet20_cifar" if seen.side <= SMALL else "resnet18")
            changes = [*self.overrides, *([] if self.epochs is None else [f"epochs={self.epochs}"])]
            plan, data = prepare(
                "arrays",
                network,
                recipe=self.recipe,
                overrides=changes,
                weights=self.weights,
                seed=seed,
                device=check_device(self.device),
                opened=data,
            )
            begun, limit = time.monotonic(), self.time_s
            start = Start() if limit is None else Start(left=lambda: begun + limit - time.monotonic(), begun=begun)
            folder = Path(scratch) / "run"
            folder.mkdir()
            train_in(folder, plan, data, listener, start=start)
            files = {name: (folder / "best" / name).read_bytes() for name in FILES}
        self.classes_ = classes
        self._range, self._files = seen.range, files
        self.n_features_in_ = seen.features
        self._opened = opened(files)
        return self

    @property
    def classifier_(self) -> Classifier:
        """The trained model, as foveate.load opens one; its classes are "0", "1", ... in the order of classes_."""
        self._check_fitted()
        return self._opened

    def predict_proba(self, X: Pictures) -> np.ndarray:  # noqa: N803
        """Probabilities float64 (n, classes) in the order of classes_; rows sum to 1."""
        self._check_fitted()
        seen = pictures_of(X, self, shape=self.shape, fitting=False, scale=self._range)
        return self._opened.predict_proba(seen.pictures)

    def predict(self, X: Pictures) -> np.ndarray:  # noqa: N803
        """The likeliest label of each picture, (n,)."""
        found = self.predict_proba(X).argmax(1)
        return cast(np.ndarray, self.classes_[found])

    def score(
        self,
        X: Pictures,  # noqa: N803
        y: Sequence[object] | np.ndarray,
        sample_weight: np.ndarray | None = None,
    ) -> float:
        """The share of pictures with the right label, 0 to 1."""
        from sklearn.metrics import accuracy_score

        return float(accuracy_score(y, self.predict(X), sample_weight=sample_weight))

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """The parameters of __init__ as they are. deep: means nothing here."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: object) -> "FoveateClassifier":
        """Set parameters of __init__; ValueError for one that there is not."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"FoveateClassifier: invalid parameter {name!r}; expected one of {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> "Tags":
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(two_d_array=True, three_d_array=True, string=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_files")

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in vars(self).items() if key != "_opened"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        if "_files" in vars(self):
            self._opened = opened(self._files)

    def __repr__(self) -> str:
        defaults = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        told = ", ".join(f"{k}={v!r}" for k, v in self.get_params().items() if v is not defaults[k])
        return f"FoveateClassifier({told})"

    def _seed(self) -> int:
        if self.random_state is None:
            return 0
        if isinstance(self.random_state, (int, np.integer)) and 0 <= self.random_state < 2**32:
            return int(self.random_state)
        raise ConfigError(f"random_state = {self.random_state!r}: expected a whole number from 0, or None")

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("This FoveateClassifier instance is not fitted yet: call fit(X, y) first")


def opened(files: dict[str, bytes]) -> Classifier:
    """The model of the files of a model folder. The folder lies on disk for a moment."""
    with tempfile.TemporaryDirectory(prefix="foveate-") as scratch:
        for name in FILES:
            (Path(scratch) / name).write_bytes(files[name])
        return load(scratch)
