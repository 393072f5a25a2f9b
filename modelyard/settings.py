"""The environment, read once.

`current()` reads `MODELYARD_*` variables the first time it is called and then always returns the same frozen record, so that no setting
changes under a running server. Tests and embedding applications build a `Settings` of their own and pass it on.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from modelyard.errors import InvalidSetting

# Third parties must not report home; set before any of them is imported, and never over the user's own choice.
TELEMETRY_OFF = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "ANONYMIZED_TELEMETRY": "False",  # Chroma
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # LiteLLM (under DSPy) otherwise fetches prices on import
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


class Settings(BaseSettings):
    """Where things live; every field is the environment variable `MODELYARD_<NAME>`.

    Attributes:
        home: Folder of everything Modelyard writes.
        database_url: SQLAlchemy URL; None means SQLite in `home`.
        mlflow_uri: MLflow tracking and registry URI; None means SQLite in `home`.
        catalog: A TOML file whose models and composites are added to (or replace) the shipped ones.
        key_variables: Names of environment variables, as JSON and with `*` for any characters, that models registered or changed over the
            API may take their key from (`["*_API_KEY"]`); those that the catalogue's file names always may be named.
        index: Folder of the retrieval index; None means the current one in `home`.
        upstream_timeout_s: Longest time for one upstream call.
        auth: `keys` asks every caller for an API key; `off` serves anybody who reaches the server, which then listens on loopback only.
        redis_url: Where several processes share limits; None counts in this process.
        without_redis: What happens while Redis is gone: `closed` refuses (503), `local` counts in this process.
        store_texts: Whether prompts and answers are kept in the database; costs and reasons always are.
        log_prompts: Whether logs may show prompts.
        max_in_flight: Requests that are answered at once; further ones are told to come back (503).
        body_s: Longest time that a request's body may take to arrive; then it is told so (408) and gives its place back.
        registry_poll_s: How often champions, catalogue and index are looked at for changes; 0 never looks.
        probe_s: How often deployments are probed; 0 never probes.
        cache_mb: Most megabytes that all caches together hold.
        trace_share: Share of answers, 0..1, whose trace goes to MLflow.
        retention_days: Days that rows are kept, by table, as JSON: `{"message": 90, "model_usage": 400}`; others are kept for good.
        alert_rules: A TOML file with the lines that alerts watch; the shipped ones without it.
        follow_registry: Whether a champion that was moved in the registry itself serves, too: `auto` where `mlflow_uri` is set.
    """

    model_config = SettingsConfigDict(env_prefix="MODELYARD_", frozen=True, extra="ignore")

    home: Path = Path(".yard")
    database_url: str | None = None
    mlflow_uri: str | None = None
    catalog: Path | None = None
    key_variables: list[str] = Field(default_factory=list[str])
    index: Path | None = None
    upstream_timeout_s: float = Field(default=60.0, gt=0)
    auth: Literal["off", "keys"] = "off"
    redis_url: str | None = None
    without_redis: Literal["closed", "local"] = "closed"
    store_texts: bool = True
    log_prompts: bool = False
    max_in_flight: int = Field(default=512, ge=1)
    body_s: float = Field(default=30.0, gt=0)
    registry_poll_s: float = Field(default=5.0, ge=0)
    probe_s: float = Field(default=30.0, ge=0)
    cache_mb: float = Field(default=256.0, ge=0)
    trace_share: float = Field(default=0.0, ge=0, le=1)
    retention_days: dict[str, float] = Field(default_factory=dict[str, float])
    alert_rules: Path | None = None
    follow_registry: Literal["auto", "on", "off"] = "auto"

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the application database."""
        return self.database_url or f"sqlite:///{(self.home / 'modelyard.db').absolute()}"

    @property
    def tracking(self) -> str:
        """MLflow tracking and registry URI."""
        return self.mlflow_uri or f"sqlite:///{(self.home / 'mlflow.db').absolute()}"

    @property
    def artifacts(self) -> Path:
        """Folder for MLflow's artifacts when the tracking store is the embedded one."""
        return (self.home / "mlartifacts").absolute()

    @property
    def champions(self) -> Path:
        """Folder of verified copies of promoted models, so that serving needs no registry to start."""
        return self.home / "champions"

    @property
    def spool(self) -> Path:
        """Folder where usage waits for the database."""
        return self.home / "spool"

    @property
    def indexes(self) -> Path:
        """Folder of retrieval indexes, one sub-folder a version and the file `current`."""
        return self.home / "indexes"


def read() -> Settings:
    """Read the environment.

    Raises:
        InvalidSetting: A variable has a value of the wrong kind.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidSetting(
            f"The environment variable MODELYARD_{name} is invalid: {first['msg']}; got {first['input']!r}."
        ) from None


@cache
def current() -> Settings:
    """Return the settings of this process."""
    return read()


def calm_threads() -> None:
    """Keep linear algebra on one thread a process, unless the user chose otherwise; must run before numpy is imported.

    Our matrices are small: several threads wait for each other longer than they work, ten times as long on a busy machine.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def switch_telemetry_off() -> None:
    """Set the variables that keep third parties from reporting home, unless the user set them."""
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)
