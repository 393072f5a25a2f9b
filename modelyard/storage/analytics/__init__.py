"""What dashboards, alerts and the analytics API ask the database: usage and cost, latency, routing, retrieval, savings.

    usage(database, Window.days(7), by="model", bucket="day")       requests, tokens, cost; error, fallback and cache hit shares
    latencies(database, Window(since, until), by="domain")          percentiles of answered requests, and of their first token
    routing_shares(database, window)                                which model answered a composite's requests
    saving_opportunities(database, since)                           traffic for which a cheaper model was predicted equal

Each takes a `Window` and, where it makes sense, `where`: which models, keys, projects … to look at. The older functions, which take
`since` alone, look at everything.
"""

from modelyard.storage.analytics.latency import Latencies, Latency, latencies, latency
from modelyard.storage.analytics.retrieval import RetrievalCounts, retrieval_counts
from modelyard.storage.analytics.routing import RoutingShare, routing_share, routing_shares
from modelyard.storage.analytics.savings import SavingOpportunity, saving_opportunities
from modelyard.storage.analytics.usage import DailyCost, UsageFigures, cost_per_model_per_day, usage
from modelyard.storage.analytics.window import Bucket, By, Only, Window

__all__ = [
    "Bucket",
    "By",
    "DailyCost",
    "Latencies",
    "Latency",
    "Only",
    "RetrievalCounts",
    "RoutingShare",
    "SavingOpportunity",
    "UsageFigures",
    "Window",
    "cost_per_model_per_day",
    "latencies",
    "latency",
    "retrieval_counts",
    "routing_share",
    "routing_shares",
    "saving_opportunities",
    "usage",
]
