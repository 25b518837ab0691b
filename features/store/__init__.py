"""The feature store: Feast's registry, the online store, and the check that the two stores agree.

    apply_registry   views, services and aliases, from Python
    promote          makes a model version the one that new work uses
    materialize      brings the online store up to date with what changed
    check_online     compares online with offline values for a sample of users and items
    view_figures     freshness and coverage of every view
    publish_embeddings   adds the vectors of a day to those that were published of it before

Nothing here loads Feast before it is called.
"""

from features.store.check import OnlineCheck, check_online
from features.store.embeddings import publish_embeddings
from features.store.figures import ViewFigures, view_figures
from features.store.online import MaterializeReport, materialize
from features.store.registry import ApplyReport, apply_registry, promote
from features.store.served import missing_models, served_versions
from features.store.services import known_services, promoted_version
from features.store.view_specs import model_versions, opened_repository, repository

__all__ = [
    "ApplyReport",
    "MaterializeReport",
    "OnlineCheck",
    "ViewFigures",
    "apply_registry",
    "check_online",
    "known_services",
    "materialize",
    "missing_models",
    "model_versions",
    "opened_repository",
    "promote",
    "promoted_version",
    "publish_embeddings",
    "repository",
    "served_versions",
    "view_figures",
]
