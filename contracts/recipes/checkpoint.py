"""config.json of a checkpoint: the model, what it was trained on, and hashes of its files.

It names no path and no version: a folder may be moved, and its name is the version.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, model_validator

from contracts.base.errors import FootpathError
from contracts.base.schema import Strict, sentences
from contracts.lake.reading import read_json
from contracts.lake.versions import CONFIG
from contracts.recipes.jobs import Finetuning, TaskSpec
from contracts.recipes.recipe import Recipe

FORMAT = 2
LARGEST = 16 << 20  # bytes of a config.json; a class of a task takes a line


class Validated(Strict):
    """What validation users say of a task model."""

    metric: str
    value: float | None  # none where the metric has no value, as of one class alone


class MemberFacts(Strict):
    """A member of a profile; its arrays are among the tensors of the checkpoint."""

    name: str  # what it reads, and how, as models.probing.profile_head names it
    kind: Literal["linear", "trees"]
    weight: float


class ProfileFacts(Strict):
    """The head of a profile: a stack on the vectors of the encoder, which stays as pre-trained."""

    view: str  # of the behavior features that it reads, in the feature store
    features: tuple[str, ...]  # its columns in their order; none: it reads no features
    trees: int  # of gradient boosting, at most
    members: tuple[MemberFacts, ...]


class TaskFacts(Strict):
    """What a model of a task predicts, and how it came about."""

    spec: TaskSpec
    classes: tuple[str, ...]  # names by class index; empty for a number
    target_center: float  # of a number: what its standardized scores are scaled back by
    target_spread: float
    protocol: Literal["frozen", "finetuned", "scratch"]
    finetuning: Finetuning | None = None  # none of a frozen encoder
    profile: ProfileFacts | None = None  # the head of a frozen encoder
    validation: Validated

    @model_validator(mode="after")
    def _frozen_has_a_profile(self) -> "TaskFacts":
        if (self.protocol == "frozen") != (self.profile is not None):
            raise ValueError("a frozen encoder has the head of a profile, and no other has one")
        return self

    @property
    def reads_features(self) -> bool:
        """Whether a prediction needs behavior features beside the events."""
        return self.profile is not None and bool(self.profile.features)

    @property
    def scores(self) -> int:
        """Values that it predicts of a user: of two classes one, of the second."""
        return 1 if len(self.classes) in (0, 2) else len(self.classes)


class CheckpointFacts(Strict):
    """What is known of a checkpoint without its weights."""

    format: Literal[2] = FORMAT
    recipe: Recipe  # resolved
    seed: int
    sizes: dict[str, int]  # vocabulary lengths
    train_cutoff: str  # ISO 8601, UTC: where its events, and labels of a task, ended
    vocabulary_hash: str
    data_fingerprint: str  # of the sequences
    labels_fingerprint: str  # of the labels that stopped training early, or empty
    identity: str  # contracts.recipes.jobs.training_identity
    code_version: str
    created: str
    weights_hash: str
    task: TaskFacts | None = None  # of a fine-tuned model, or of a profile

    @property
    def pretraining(self) -> dict[str, Any]:
        """The fields that a task's model which is made from this one has as well."""
        own = {"format", "task", "code_version", "created", "weights_hash"}
        return {name: value for name, value in self if name not in own}


def load_facts(folder: Path) -> CheckpointFacts:
    """Reads config.json of a checkpoint.

    Raises:
      FootpathError: there is none, or it is of another format, or damaged.
    """
    path = folder / CONFIG
    if not path.exists():
        raise FootpathError(f"{folder} holds no finished checkpoint: train the model first")
    if (size := path.stat().st_size) > LARGEST:
        raise FootpathError(
            f"{path} has {size:,} bytes, and no more than {LARGEST:,} were expected: "
            f"train the model again"
        )
    found = read_json(path)
    if (told := found.get("format")) != FORMAT:
        raise FootpathError(
            f"{path} is of format {told}, and format {FORMAT} is read here: train the model again"
        )
    try:
        return CheckpointFacts.model_validate(found)
    except ValidationError as error:
        raise FootpathError(f"{sentences(error, str(path))}: train the model again") from None
