"""Folders as people bring them: splits under other names, classes that lie deeper, repositories, copies."""

import random

import pytest
from folders import found, grow, question

from foveate.data.gate.names import hidden, split_name
from foveate.data.index import open_data
from foveate.errors import DataError

# ---- names


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (
            "train Train TRAIN training Training trainset TrainSet train_set Train_Data train-images images_train",
            "train",
        ),
        (
            "TrainingImages training_data 01_train train2017 seg_train asl_alphabet_train Final_Training trainval",
            "train",
        ),
        ("val VAL valid validation Validation_Set val_images valset dev Dev-Set eval evaluation val2017", "val"),
        ("test TEST Testing test_set testset Test_Images seg_test hold-out holdout held_out test2 FinalTest", "test"),
    ],
)
def test_a_split_is_known_under_all_its_names(names, split):
    assert {name: said and said.split for name in names.split() if (said := split_name(name)) or True} == dict.fromkeys(
        names.split(), split
    )


@pytest.mark.parametrize(
    "name",
    [
        *("cat", "trainer", "trains", "invalid", "testament", "contest", "device", "devil", "latest", "attest"),
        *("valley", "rain", "strain", "train_test_split", "7"),
    ],
)
def test_other_words_are_no_splits(name):
    assert split_name(name) is None


@pytest.mark.parametrize(
    "name",
    [
        *("$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "#recycle", "@Recycle", "lost+found", "LOST+FOUND", "@eaDir"),
        *("System Volume Information", ".Trash-1000", ".Trashes", "__MACOSX", ".ipynb_checkpoints", "Thumbs.db"),
        *("ehthumbs.db", ".thumbnails", "FOUND.000", "LOST.DIR", "#snapshot", "desktop.ini", "__pycache__"),
    ],
)
def test_what_systems_leave_is_left_out_wherever_it_stands(tmp_path, name):
    grow(tmp_path, "ant:2", "bee:2", f"{name}:1", f"ant/{name}/deep:1", f"bee/{name}:1")
    assert hidden(name) and found(tmp_path) == {"": {"ant": 2, "bee": 2}}
    data = open_data(tmp_path, val=0, test=0)
    assert any("hidden and system files, ignored" in note for note in data.notes)


@pytest.mark.parametrize("name", ["trash", "recycled", "snapshot", "lost", "thumbnails", "cache", "found", "@b", "#1"])
def test_classes_with_names_near_to_those_stay_classes(tmp_path, name):
    grow(tmp_path, "ant:2", f"{name}:2")
    assert set(found(tmp_path)[""]) == {"ant", name}


# ---- splits


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("TRAIN", "TEST"),
        ("train_images", "test_images"),
        ("images_train", "images_test"),
        ("Train_Data", "Test_Data"),
        ("seg_train", "seg_test"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("trainset", "testset"),
        ("train/images", "test/images"),
        ("asl_train", "test"),
        ("train2019", "holdout"),
        ("Dataset_Train", "dataset_TEST"),
        ("my-flowers-training-set", "my-flowers-test-set"),
    ],
)
def test_splits_under_other_names_are_splits(tmp_path, train, test):
    grow(
        tmp_path, *(f"{train}/{c}:4" for c in ("ant", "bee", "cat")), *(f"{test}/{c}:2" for c in ("ant", "bee", "cat"))
    )
    classes = ("ant", "bee", "cat")
    assert found(tmp_path) == {"train": dict.fromkeys(classes, 4), "test": dict.fromkeys(classes, 2)}
    assert open_data(tmp_path, val=0).classes == classes


@pytest.mark.parametrize("name", ["valid", "validation", "val_set", "dev", "evaluation", "Validation_Images", "VAL"])
def test_validation_has_many_names_too(tmp_path, name):
    grow(tmp_path, "Training/a:3", "Training/b:3", f"{name}/a:1", f"{name}/b:1", "Testing/a:1", "Testing/b:1")
    assert set(found(tmp_path)) == {"train", "val", "test"}


def test_a_holdout_beside_a_test_is_for_validation(tmp_path):
    grow(tmp_path, "train/a:3", "train/b:3", "test/a:1", "holdout/a:2")
    assert found(tmp_path) == {"train": {"a": 3, "b": 3}, "test": {"a": 1}, "val": {"a": 2}}


@pytest.mark.parametrize(
    "words",
    [
        ("bus:3", "train:3", "test_tube:3"),
        ("train:3", "test_tube:3"),
        ("valid:3", "invalid:3"),
        ("train/steam:2", "train/electric:2", "test_tube/glass:2", "test_tube/plastic:2"),
        ("train_station:2", "test_pattern:2", "dev_board:2"),
        ("model_train:2", "model_bus:2"),
    ],
)
def test_classes_with_such_names_stay_classes(tmp_path, words):
    grow(tmp_path, *words)
    if words[0] == "train/steam:2":  # train has class folders, and so has what stands beside it
        assert "test_tube beside it may be classes too; if all are classes, rename train" in question(tmp_path)
    else:
        assert set(found(tmp_path)[""]) == {word.partition(":")[0] for word in words}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("Training:3", "Testing:3"),
            "Testing and Training have no class folders but 6 pictures, and splits are no classes",
        ),
        (("train:3", "test:3", "docs:1"), "test and train have no class folders but 6 pictures"),
        (("cats_train:3", "cats_test:3"), "cats_test and cats_train have no class folders"),
        (("train2017:3", "val2017:2"), "train2017 and val2017 have no class folders"),
        (("cat:3", "dog:3", "test:3"), "test/ holds pictures but no class folders, beside cat, dog"),
        (("cat:3", "dog:3", "Training:3"), "Training/ holds pictures but no class folders, beside cat, dog"),
        (("Testing/a:3", "Testing/b:3", "cat:2"), "Testing/ has class folders but train/ is missing"),
        (("train/a:2", "Training/b:2"), "Training and train are the same split; keep one of them"),
        (("train/a:2", "train/b:2", "val/a:1", "dev/a:1"), "dev and val are the same split; keep one of them"),
        (("train/a:2", "train/b:2", "bus:1", "car:1"), "bus, car beside it may be classes too"),
        (
            ("cat/train:2", "cat/test:1", "dog/train:2", "dog/test:1"),
            "cat, dog hold test and train each: splits inside",
        ),
    ],
)
def test_what_is_neither_split_nor_class_is_a_question(tmp_path, words, said):
    assert said in question(grow(tmp_path, *words))


@pytest.mark.parametrize("where", ["test/unknown", "test/test", "test", "test/images", "Testing/unlabelled"])
def test_a_test_without_labels_is_left_out_and_said(tmp_path, where):
    grow(tmp_path, "train/ant:12", "train/bee:12", f"{where}:3")
    data = open_data(tmp_path)
    (warning,) = data.warnings
    assert warning.startswith(f"{where.partition('/')[0]}/ holds 3 pictures without labels") and "left out" in warning
    assert all("/train/" in path for split in data.splits.values() for path in split.paths) and len(data.splits) == 3


def test_a_class_that_only_test_has_still_stops(tmp_path):
    grow(tmp_path, "train/cat:3", "train/dog:3", "test/dgo:1")
    assert 'test has the class "dgo"' in question(tmp_path)
    grow(tmp_path / "other", "train/cat:3", "train/unknown:3", "test/unknown:1")
    assert found(tmp_path / "other")["test"] == {"unknown": 1}


# ---- classes that lie deeper


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("Dataset/ant:2", "Dataset/bee:2"), "X/Dataset"),
        (("archive/Dataset/ant:2", "archive/Dataset/bee:2"), "X/archive/Dataset"),
        (("a/b/c/d/ant:1", "a/b/c/d/bee:1"), "X/a/b/c/d"),
        (("archive/Dataset/Training/ant:1", "archive/Dataset/Testing/ant:1"), "X/archive/Dataset"),
        (("Dataset/ant:2", "Dataset/bee:2", "notes/readme.txt"), "X/Dataset"),
        (("Dataset/ant:2", "Dataset/bee:2", "sample:2"), "X/Dataset"),
        (("data/raw/ant:2", "data/raw/bee:2", "sample:2"), "X/data/raw"),
        (("photos/train/ant:2", "photos/test/ant:2", "other:1"), "X/photos"),
        (("no:2", "yes:2", "brain_tumor_dataset/no:2", "brain_tumor_dataset/yes:2"), "X/brain_tumor_dataset"),
        (("train/intel/ant:2", "train/intel/bee:2"), "X/train/intel"),
        (("train_data/train/a:2", "train_data/train/b:2", "train_data/val/a:2", "train_data/val/b:2"), "X/train_data"),
        (("Training/Training/a:2", "Training/Testing/a:2", "notes/x.txt"), "X/Training"),
    ],
)
def test_a_folder_around_the_classes_is_a_question(tmp_path, words, meant):
    assert f"did you mean {meant}?" in question(grow(tmp_path, *words))


def test_classes_that_lie_one_level_deeper_are_told_and_stay_legal(tmp_path):
    grow(tmp_path, "animals/ant:8", "animals/bee:8", "vehicles/car:8", "vehicles/bus:8")
    data = open_data(tmp_path)
    (warning,) = data.warnings
    assert data.classes == ("animals", "vehicles") and warning.startswith(
        "the pictures of animals, vehicles lie one level deeper, in 4 folders of 4 different names"
        " (animals/ant, animals/bee, vehicles/bus, vehicles/car)"
    )


def test_the_same_names_in_every_class_are_told_as_such(tmp_path):
    grow(tmp_path, "day/cat:8", "day/dog:8", "night/cat:8", "night/dog:8")
    assert "in 4 folders of the same names in each (day/cat" in open_data(tmp_path).warnings[0]


def test_a_class_with_a_folder_inside_is_no_question(tmp_path):
    grow(tmp_path, "ant:4", "ant/more:4", "bee/session1:4", "cat:8")
    data = open_data(tmp_path, val=0, test=0)
    assert data.classes == ("ant", "bee", "cat") and data.warnings == ()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fold_1/a:2", "fold_1/b:2", "fold_2/a:2", "fold_2/b:2"), "fold_1, fold_2 are parts of a data set"),
        (("part1/a:2", "part1/b:2", "part2/a:2", "part2/b:2"), "part1, part2 are parts of a data set"),
        (("HAM10000_images_part_1:2", "HAM10000_images_part_2:2"), "are parts of a data set, not classes"),
        (("images_001/images:2", "images_002/images:2", "images_003/images:2"), "are parts of a data set, not classes"),
        (("Original/a:1", "Original/b:1", "Augmented/a:3", "Augmented/b:3"), "versions of one data set"),
        (("EuroSAT/a:1", "EuroSAT/b:1", "EuroSATallBands/a:3", "EuroSATallBands/b:3"), "did you mean X/EuroSAT?"),
        (("images:3", "masks:3"), "hold pictures and what was drawn on them"),
        (("images:3", "ground_truth:3"), "hold pictures and what was drawn on them"),
    ],
)
def test_parts_and_versions_of_a_data_set_are_no_classes(tmp_path, words, said):
    assert said in question(grow(tmp_path, *words))


@pytest.mark.parametrize(
    "names",
    [
        ("part_1", "part_2"),
        ("class_1", "class_2"),
        ("1", "2"),
        ("photos", "paintings"),
        ("color", "grayscale"),
        ("mask", "no_mask"),
    ],
)
def test_classes_with_numbers_and_plain_words_stay_classes(tmp_path, names):
    grow(tmp_path, *(f"{name}:2" for name in names))
    assert set(found(tmp_path)[""]) == set(names)


NAMES = "train Training test Testing val seg_train seg_test ant bee cat images Dataset docs src unknown fold_1 fold_2"


def strewn(rng, depth=0):
    """Words for grow(): folders of all these names in any order and depth, with and without pictures."""
    words = []
    for name in rng.sample(NAMES.split(), rng.randint(1, 3)):
        if depth < 2 and rng.random() < 0.6:
            words += [f"{name}/{word}" for word in strewn(rng, depth + 1)]
        words.append(f"{name}:{rng.randint(1, 2)}" if rng.random() < 0.7 else f"{name}/")
    return words


@pytest.mark.parametrize("block", range(4))
def test_whatever_stands_there_ends_in_classes_or_in_one_line(tmp_path, block):
    for seed in range(25 * block, 25 * block + 25):
        root = grow(tmp_path / str(seed), *strewn(random.Random(seed)))
        try:
            data = open_data(root, val=0, test=0)
        except DataError as error:
            assert "\n" not in str(error) and str(root) in str(error)
            continue
        splits = {said.split for name in data.classes if (said := split_name(name)) and not said.rest}
        assert len(data.classes) > 1 and len(splits) < 2


# ---- public layouts, made small


def test_intel_scenes(tmp_path):
    classes = ("buildings", "forest", "glacier")
    grow(tmp_path, *(f"seg_train/seg_train/{c}:3" for c in classes), *(f"seg_test/seg_test/{c}:1" for c in classes))
    grow(tmp_path, "seg_pred/seg_pred:4")
    assert found(tmp_path) == {"train": dict.fromkeys(classes, 3), "test": dict.fromkeys(classes, 1)}


def test_brain_tumours(tmp_path):
    classes = ("glioma", "meningioma", "notumor", "pituitary")
    grow(tmp_path, *(f"Training/{c}:3" for c in classes), *(f"Testing/{c}:1" for c in classes))
    assert open_data(tmp_path, val=0).classes == classes


def test_chest_xrays_with_what_a_mac_leaves(tmp_path):
    splits = ("train", "val", "test")
    grow(tmp_path, *(f"chest_xray/{s}/{c}:2" for s in splits for c in ("NORMAL", "PNEUMONIA")))
    grow(tmp_path, *(f"chest_xray/{s}/{n}" for s in splits for n in (".DS_Store", "NORMAL/.DS_Store")))
    grow(tmp_path, "__MACOSX/chest_xray/train/NORMAL:2")
    assert question(tmp_path).endswith("did you mean X/chest_xray?")
    assert set(found(tmp_path / "chest_xray")) == {"train", "val", "test"}


def test_plant_village_which_holds_itself(tmp_path):
    classes = ("Potato___healthy", "Tomato_Leaf_Mold", "Tomato_healthy")
    grow(tmp_path, *(f"PlantVillage/{c}:2" for c in classes), *(f"PlantVillage/PlantVillage/{c}:2" for c in classes))
    assert "PlantVillage/ is no class, it holds Potato___healthy" in question(tmp_path / "PlantVillage")


def test_plant_village_in_three_renderings(tmp_path):
    kinds = ("color", "grayscale", "segmented")
    grow(tmp_path, "README.md", ".git/config", "utils/make.py", *(f"raw/{k}/{c}:1" for k in kinds for c in "ab"))
    assert "did you mean X/raw?" in question(tmp_path)
    assert question(tmp_path / "raw").endswith("each holds a, b; did you mean X/color?")


def test_german_traffic_signs(tmp_path):
    grow(tmp_path, *(f"Final_Training/Images/{i:05d}:3" for i in range(4)), "Final_Test/Images:5", "Readme-Images.txt")
    for path in (tmp_path / "Final_Training" / "Images").glob("*/*.png"):
        path.rename(path.with_suffix(".ppm"))
    assert found(tmp_path) == {"train": {f"{i:05d}": 3 for i in range(4)}}


def test_sign_language_letters_with_a_test_of_loose_pictures(tmp_path):
    grow(
        tmp_path,
        *(f"asl_alphabet_train/asl_alphabet_train/{c}:9" for c in "AB"),
        "asl_alphabet_test/asl_alphabet_test:3",
    )
    data = open_data(tmp_path)
    assert data.classes == ("A", "B") and "without labels" in data.warnings[0]


@pytest.mark.parametrize(
    "words",
    [
        ("README.md", "src/main.py", ".git/config", "docs/images:2", "data/ant:3", "data/bee:3"),
        ("README.md", "src/main.py", "docs/images:2", "data/ant:3", "data/bee:3", "data/cat:3"),
        ("setup.py", "tests/fixtures:2", "examples/a:1", "examples/b:1", "data/ant:3", "data/bee:3"),
        ("train.ipynb", "app/logo:1", "data/ant:3", "data/bee:3"),
    ],
)
def test_the_root_of_a_repository_is_a_question(tmp_path, words):
    assert "did you mean X/data?" in question(grow(tmp_path, *words))


def test_a_repository_with_class_folders_at_its_root(tmp_path):
    grow(tmp_path, ".git/config", "README.md", "ant:9", "bee:9", "src/main.py")
    assert open_data(tmp_path).classes == ("ant", "bee")
    grow(tmp_path, "docs/img:1")
    assert "the root of a repository (docs, src), where docs is no class" in question(tmp_path)


@pytest.mark.parametrize("name", [".lock", ".owner", ".DS_Store"])
def test_a_folder_with_nothing_but_a_lock_is_empty(tmp_path, name):
    grow(tmp_path, name)
    assert "no pictures and no class folders" in question(tmp_path)
