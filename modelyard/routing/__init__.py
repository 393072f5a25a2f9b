"""Choosing the base model: the same policies in offline evaluation and in serving."""

from modelyard.routing.base import RoutingPolicy
from modelyard.routing.learned import LearnedPolicy
from modelyard.routing.model import RouterModel
from modelyard.routing.policies import CheapestPolicy, RulesPolicy, StaticPolicy

__all__ = ["CheapestPolicy", "LearnedPolicy", "RouterModel", "RoutingPolicy", "RulesPolicy", "StaticPolicy"]
