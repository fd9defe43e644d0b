"""What the tests share: a small data set, the real files, and how hypothesis draws."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pathlib import Path

import hypothesis
import pytest

# The same examples on every machine, and no folder of remembered failures beside the code.
hypothesis.settings.register_profile(
    "r2n2", derandomize=True, database=None, deadline=None, max_examples=40
)
hypothesis.settings.load_profile("r2n2")


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """A synthesised data set: 4 categories of 5 models, 6 views each."""
    from r2n2_keras.shapes import dataset

    out = tmp_path_factory.mktemp("tree") / "data"
    return dataset.synthesize(out, models_per_category=5, num_views=6, processes=1)


@pytest.fixture(scope="session")
def prepared_tree(tree, tmp_path_factory) -> Path:
    """What `prepare` makes of it; not to change."""
    from commands import succeed

    folder = tmp_path_factory.mktemp("prepared")
    succeed("prepare", f"--data_dir={tree}", "--out=data", cwd=folder)
    return folder / "data"


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """The small set of `packed` as a tree; not to change."""
    import packed

    return packed.write_tree(tmp_path_factory.mktemp("packed"), packed.files())


@pytest.fixture(scope="session")
def truth(small):
    """What must come out of `small`, as `packed.of_tree` has it."""
    import packed

    return packed.of_tree(small)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """The models of `named`, whose files say who they are; not to change."""
    import named

    return named.write_models(tmp_path_factory.mktemp("named"))


@pytest.fixture
def suspects(tmp_path):
    """The same models below `tmp_path`, for a test that breaks some of their files."""
    import named

    return named.write_models(tmp_path)


@pytest.fixture(scope="session")
def home(tree, tmp_path_factory) -> Path:
    """A folder in which `run` was trained, evaluated, predicted with and exported; not to change.

    Each command has a process of its own here, and shares pytest's in most other tests.
    """
    from commands import TRAIN, process, succeed

    folder = tmp_path_factory.mktemp("home")
    succeed("train", *TRAIN, f"--data_dir={tree}", cwd=folder, how=process)
    succeed("evaluate", "--workdir=run", "--eval_views=1,3", cwd=folder, how=process)
    succeed("predict", "--workdir=run", cwd=folder, how=process)
    succeed("export", "--workdir=run", cwd=folder, how=process)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real 3D-R2N2 files that R2N2_REAL_DATA names; skips where there is none."""
    folder = os.environ.get("R2N2_REAL_DATA")
    if not folder:
        pytest.skip("without R2N2_REAL_DATA: real renderings may not be given along")
    if not os.path.isdir(folder):
        pytest.fail(f"R2N2_REAL_DATA={folder} is not a folder")
    return Path(folder)
