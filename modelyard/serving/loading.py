"""Puts composites together: catalogue, champions, index and dispatcher."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelyard.catalog import BaseModel, Catalog, Composite, load_catalog
from modelyard.composite import CompositeModel, Drafter, Parts
from modelyard.control.memory import Memory
from modelyard.errors import UnknownModel
from modelyard.generation import make_dispatcher
from modelyard.registry.champions import load_champion
from modelyard.retrieval import Index, current_index
from modelyard.routing import LearnedPolicy, RouterModel, RoutingPolicy, StaticPolicy
from modelyard.routing.conversation import Conversations
from modelyard.settings import Settings, current
from modelyard.tasks import Classifier, LearnedClassifier, RuleClassifier, open_classifier
from modelyard.upstream import DeploymentStates, Upstream

NO_CLASSIFIER = "No task classifier is registered: rules read the task."
WORDS_ALONE = (
    "The task classifier's sentence encoder is not installed: words alone read the task (`modelyard models install`)."
)
NO_ROUTER = "No router is registered: the static policy chose the model."


@dataclass(frozen=True, slots=True)
class Router:
    """The champion router, and under which version it serves."""

    model: RouterModel
    version: str


@dataclass(frozen=True, slots=True)
class Yard:
    """What all composites of one moment share; nothing in it changes.

    Attributes:
        catalog: Models and composites.
        classifier: Reads tasks.
        router: None where none was promoted yet.
        index: None where no knowledge base was built.
        dispatcher: Calls base models.
        conversations: Outlives this moment.
        memory: Of this moment, in caches that outlive it.
    """

    catalog: Catalog
    classifier: Classifier
    router: Router | None
    index: Index | None
    dispatcher: Drafter
    conversations: Conversations
    memory: Memory = field(default_factory=Memory)

    def compose(self, name: str) -> CompositeModel:
        """Return a composite model, or a base model by its name.

        Raises:
            UnknownModel: The catalogue has neither a composite nor a served base model of that name.
        """
        spec = _spec(name, self.catalog)
        models = tuple(model for model in map(self.catalog.model, spec.candidates) if model.served)
        if not models:
            raise UnknownModel(f"Every candidate of {name!r} is disabled.")
        policy, router_notice = _policy(spec, models, self.router)
        notices = tuple(notice for notice in (_classifier_notice(self.classifier), router_notice) if notice)
        parts = Parts(
            spec,
            models,
            self.classifier,
            policy,
            self.index,
            self.dispatcher,
            notices,
            self.conversations,
            tuple(map(self.catalog.model, spec.fallbacks)),
            self.memory,
        )
        return CompositeModel(parts)


def open_yard(
    settings: Settings,
    catalog: Catalog,
    *,
    upstream: Upstream,
    states: DeploymentStates | None = None,
    conversations: Conversations | None = None,
    memory: Memory | None = None,
) -> Yard:
    """Load the champions and the index that serve now.

    Args:
        settings: Where they are.
        catalog: Models and composites.
        upstream: The HTTP client for models behind an endpoint.
        states: What is known of each deployment, where that should outlive this yard.
        conversations: Which model answered each conversation last, where that should.
        memory: Decisions and passages of earlier requests to this very yard; without it each is made anew.

    Raises:
        CorruptModel: A champion or the index differs from its manifest.
    """
    index = current_index(settings)
    dispatcher = make_dispatcher(catalog.models, index=index, upstream=upstream, states=states or DeploymentStates())
    conversations, memory = conversations or Conversations(), memory or Memory()
    return Yard(catalog, _classifier(settings), _router(settings), index, dispatcher, conversations, memory)


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
    _spec(name, catalog)  # a wrong name is told before seconds of loading
    return open_yard(settings, catalog, upstream=upstream or Upstream.from_settings(settings)).compose(name)


def _spec(name: str, catalog: Catalog) -> Composite:
    offered = catalog.offered
    match offered.get(name):
        case "composite":
            return catalog.composite(name)
        case "base":
            return Composite(name, "A base model, asked for by name.", (name,), name)
        case None:
            composites = sorted(known for known in offered if offered[known] == "composite")
            served = ", ".join((*composites, *(known for known in offered if offered[known] == "base")))
            raise UnknownModel(f"No model is called {name!r}; served here are {served}.")


def _classifier(settings: Settings) -> Classifier:
    champion = load_champion("classifier", settings)
    if champion is None:
        return RuleClassifier()
    return open_classifier(champion.artifact, f"classifier-{champion.version}", settings)


def _router(settings: Settings) -> Router | None:
    champion = load_champion("router", settings)
    return None if champion is None else Router(RouterModel.from_artifact(champion.artifact), champion.version)


def _classifier_notice(classifier: Classifier) -> str | None:
    if isinstance(classifier, RuleClassifier):
        return NO_CLASSIFIER
    if isinstance(classifier, LearnedClassifier) and classifier.reads_words_alone:
        return WORDS_ALONE
    return None


def _policy(spec: Composite, models: tuple[BaseModel, ...], router: Router | None) -> tuple[RoutingPolicy, str | None]:
    names = [model.name for model in models]
    static = StaticPolicy(spec.fallback if spec.fallback in names else names[0])
    if len(models) == 1:
        return static, None
    if router is None:
        return static, NO_ROUTER
    if not set(names) & set(router.model.models):
        return (
            static,
            f"Router {router.version} knows none of this composite's models: the static policy chose the model.",
        )
    return LearnedPolicy(router.model, f"router-{router.version}"), None
