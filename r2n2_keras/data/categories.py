"""The 13 categories of the paper's experiments on ShapeNet, with their WordNet synset ids."""

SYNSET_IDS = {
    "airplane": "02691156",
    "bench": "02828884",
    "cabinet": "02933112",
    "car": "02958343",
    "chair": "03001627",
    "display": "03211117",
    "lamp": "03636649",
    "loudspeaker": "03691459",
    "rifle": "04090263",
    "sofa": "04256520",
    "table": "04379243",
    "telephone": "04401088",
    "watercraft": "04530566",
}

_CATEGORIES = {synset_id: category for category, synset_id in SYNSET_IDS.items()}


def category_of(synset_id: str) -> str:
    """Name of a category; the id itself where it is not one of the 13."""
    return _CATEGORIES.get(synset_id, synset_id)
