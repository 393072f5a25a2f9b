"""Puts a composite together: catalogue, champions, index and generators."""

from __future__ import annotations

from modelyard.catalog import BaseModel, Catalog, Composite, load_catalog
from modelyard.composite import CompositeModel, Parts
from modelyard.errors import UnknownModel
from modelyard.generation import make_generator
from modelyard.registry.champions import load_champion
from modelyard.retrieval import current_index
from modelyard.routing import LearnedPolicy, RouterModel, RoutingPolicy, StaticPolicy
from modelyard.settings import Settings, current
from modelyard.tasks import Classifier, LearnedClassifier, RuleClassifier, open_classifier
from modelyard.upstream import Upstream

NO_CLASSIFIER = "No task classifier is registered: rules read the task."
WORDS_ALONE = (
    "The task classifier's sentence encoder is not installed: words alone read the task (`modelyard models install`)."
)
NO_ROUTER = "No router is registered: the static policy chose the model."


def load(name: str = "auto", settings: Settings | None = None, *, upstream: Upstream | None = None) -> CompositeModel:
    """Load a composite model, or a base model by its name, with the champions that serve now.

    Args:
        name: `auto`, another composite of the catalogue, or one of its base models.
        settings: Where things live; the environment's without it.
        upstream: The HTTP client for models behind an endpoint; one of its own without it.

    Raises:
        UnknownModel: The catalogue has neither a composite nor a served base model of that name.
        CorruptModel: A champion or the index differs from its manifest.
        InvalidSetting: The catalogue is not valid.
    """
    settings = settings or current()
    catalog = load_catalog(settings.catalog)
    spec = _spec(name, catalog)
    models = tuple(catalog.model(candidate) for candidate in spec.candidates)
    classifier = _classifier(settings)
    policy, router_notice = _policy(spec, models, settings)
    index = current_index(settings)
    client = upstream or Upstream(settings.upstream_timeout_s)
    generators = {model.name: make_generator(model, index=index, upstream=client) for model in models}
    notices = tuple(notice for notice in (_classifier_notice(classifier), router_notice) if notice)
    return CompositeModel(Parts(spec, models, classifier, policy, index, generators, notices))


def _spec(name: str, catalog: Catalog) -> Composite:
    if name in catalog.composites:
        return catalog.composite(name)
    if name in catalog.served:
        return Composite(name, "A base model, asked for by name.", (name,), name)
    served = ", ".join((*sorted(catalog.composites), *catalog.served))
    raise UnknownModel(f"No model is called {name!r}; served here are {served}.")


def _classifier(settings: Settings) -> Classifier:
    champion = load_champion("classifier", settings)
    if champion is None:
        return RuleClassifier()
    return open_classifier(champion.artifact, f"classifier-{champion.version}", settings)


def _classifier_notice(classifier: Classifier) -> str | None:
    if isinstance(classifier, RuleClassifier):
        return NO_CLASSIFIER
    if isinstance(classifier, LearnedClassifier) and classifier.reads_words_alone:
        return WORDS_ALONE
    return None


def _policy(spec: Composite, models: tuple[BaseModel, ...], settings: Settings) -> tuple[RoutingPolicy, str | None]:
    static = StaticPolicy(spec.fallback)
    if len(models) == 1:
        return static, None
    champion = load_champion("router", settings)
    if champion is None:
        return static, NO_ROUTER
    router = RouterModel.from_artifact(champion.artifact)
    if not {model.name for model in models} & set(router.models):
        return (
            static,
            f"Router {champion.version} knows none of this composite's models: the static policy chose the model.",
        )
    return LearnedPolicy(router, f"router-{champion.version}"), None
