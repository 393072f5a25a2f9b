"""MLflow's side of the registry: one client, quiet, without its global state.

Everything goes through `MlflowClient`: the fluent API keeps the tracking URI and the active run in globals and in the environment, which
a library must not touch in somebody else's application.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from modelyard.errors import NoChampion, RegistryError
from modelyard.predictors import verify_artifact
from modelyard.predictors.artifact import content_hash
from modelyard.settings import Settings, switch_telemetry_off

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT: Final = "modelyard-registry"  # holds models that no run stands behind
LOADERS: Final = {"classifier": "modelyard.tasks.pyfunc", "router": "modelyard.routing.pyfunc"}
EXAMPLE: Final = "My React form loses its state when I switch tabs. Why?"
SHA256_TAG: Final = "modelyard.sha256"
ASK_S: Final = 10  # longest wait for a tracking server's answer, where one is brief
LONGEST_ACCOUNT: Final = 300  # characters of somebody else's error in a sentence of ours


class ModelStore(Protocol):
    """What promotion needs of a model registry."""

    def alias(self, component: str, alias: str) -> str | None:
        """Return the version that an alias points at, or None."""
        ...

    def set_alias(self, component: str, alias: str, version: str | None) -> None:
        """Point an alias at a version; None removes it."""
        ...

    def run_of(self, component: str, version: str) -> str | None:
        """Return the run that made a version; raises RegistryError where there is no such version."""
        ...

    def fetch(self, component: str, version: str, folder: Path) -> Path:
        """Bring a version's artifact into a folder, unverified, and return where it is."""
        ...

    def sha256(self, component: str, version: str) -> str | None:
        """Return the content hash that a version was registered with."""
        ...


def connect(settings: Settings) -> MlflowClient:
    """Return a client of the tracking and registry store; its tables are made where they are missing.

    Raises:
        RegistryError: The store cannot be opened.
    """
    switch_telemetry_off()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    settings.home.mkdir(parents=True, exist_ok=True)
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)  # it misses pip, which nothing here needs
    try:
        return mlflow.MlflowClient(tracking_uri=settings.tracking, registry_uri=settings.tracking)
    except (MlflowException, SQLAlchemyError) as error:
        # Not the address itself: it may hold a password.
        where = "of MODELYARD_MLFLOW_URI" if settings.mlflow_uri else str(settings.home / "mlflow.db")
        raise RegistryError(f"The MLflow store {where} cannot be opened: {str(error).splitlines()[0]}.") from None


def be_brief(settings: Settings) -> None:
    """Keep MLflow from asking a server that is gone for minutes, unless the user chose otherwise; for what is tried again anyway."""
    if settings.mlflow_uri is not None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(ASK_S))


def experiment_id(client: MlflowClient, name: str, settings: Settings) -> str:
    """Return the experiment's id; it is made where it is missing, with its artifacts in the home when the store is the embedded one.

    Raises:
        RegistryError: The experiment was deleted.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = settings.artifacts.as_uri() if settings.mlflow_uri is None else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another process made it in the meantime
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise RegistryError(f"The MLflow experiment {name!r} was deleted: restore it or purge it.")
    return found.experiment_id


class MlflowStore:
    """The registry in MLflow: registered models `modelyard-<component>`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = connect(settings)

    def register(self, component: str, folder: Path, run_id: str | None, about: Mapping[str, Any]) -> str:
        """Log a saved model as pyfunc and register it as the next version.

        Raises:
            CorruptModel: The folder is not what its manifest says.
        """
        sha256 = content_hash(verify_artifact(folder, component)["files"])
        run_id = run_id or self._own_run(component)
        logged = self._log(component, folder, run_id)
        name = model_name(component)
        self._create_registered(name)
        tags = {SHA256_TAG: sha256, **{key: _tag(value) for key, value in about.items()}}
        # Not by the source `models:/<id>`: the store would look that up at the process's default tracking URI.
        source = str(logged.artifact_location)
        made = self.client.create_model_version(name, source, run_id, tags=tags, model_id=logged.model_id)
        return str(made.version)

    def alias(self, component: str, alias: str) -> str | None:
        """Return the version that an alias points at, or None."""
        aliases: Mapping[str, Any] = self._registered(component).aliases
        found = aliases.get(alias)
        return None if found is None else str(found)

    def set_alias(self, component: str, alias: str, version: str | None) -> None:
        """Point an alias at a version; None removes it."""
        if version is None:
            self.client.delete_registered_model_alias(model_name(component), alias)
        else:
            self.client.set_registered_model_alias(model_name(component), alias, version)

    def run_of(self, component: str, version: str) -> str | None:
        """Return the run that made a version.

        Raises:
            RegistryError: There is no such version.
        """
        return self._version(component, version).run_id or None

    def sha256(self, component: str, version: str) -> str | None:
        """Return the content hash that a version was registered with."""
        return self._version(component, version).tags.get(SHA256_TAG)

    def fetch(self, component: str, version: str, folder: Path) -> Path:
        """Bring a version's artifact into a folder, unverified, and return where it is.

        Raises:
            RegistryError: There is no such version, or its files cannot be fetched.
        """
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        location = self.client.get_model_version_download_uri(model_name(component), version)
        try:
            path = download_artifacts(f"{location}/data", dst_path=str(folder), tracking_uri=self.settings.tracking)
        except (MlflowException, OSError) as error:
            raise RegistryError(f"The files of {component} {version} cannot be fetched: {error}.") from None
        inner = [entry for entry in Path(path).iterdir() if entry.is_dir()]
        if len(inner) != 1:
            raise RegistryError(f"The files of {component} {version} in {location} are not a saved model.")
        return inner[0]

    def _own_run(self, component: str) -> str:
        """Make a run for a model that none stands behind: MLflow would look for one at the process's default tracking URI."""
        home = experiment_id(self.client, EXPERIMENT, self.settings)
        run_id = self.client.create_run(home, run_name=f"register-{component}").info.run_id
        self.client.set_terminated(run_id)
        return run_id

    def _log(self, component: str, folder: Path, run_id: str) -> Any:
        from mlflow import pyfunc
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, Schema

        home = self.client.get_run(run_id).info.experiment_id
        logged = self.client.create_logged_model(home, name=component, source_run_id=run_id)
        try:
            with tempfile.TemporaryDirectory() as place:
                path = Path(place) / "model"
                pyfunc.save_model(
                    path,
                    loader_module=LOADERS[component],
                    data_path=str(folder.absolute()),
                    mlflow_model=Model(run_id=run_id, model_id=logged.model_id, model_uuid=logged.model_id),
                    signature=ModelSignature(inputs=Schema([ColSpec("string", "prompt")])),
                    input_example=[{"prompt": EXAMPLE}],
                    pip_requirements=[_requirement()],
                )
                self.client.log_model_artifacts(logged.model_id, str(path))
        except BaseException:
            self.client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        self.client.finalize_logged_model(logged.model_id, "READY")
        self.client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        return logged

    def _create_registered(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _registered(self, component: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_registered_model(model_name(component))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise NoChampion(f"No {component} is registered yet.") from None
            raise unreachable(error) from None

    def _version(self, component: str, version: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_model_version(model_name(component), version)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise RegistryError(f"There is no version {version!r} of the {component}.") from None
            raise unreachable(error) from None


def model_name(component: str) -> str:
    """Return the registered model's name."""
    return f"modelyard-{component}"


def unreachable(error: Exception) -> RegistryError:
    """Return a sentence about a registry that does not answer."""
    return RegistryError(f"The model registry does not answer: {shown(str(error) or type(error).__name__)}.")


def shown(account: str) -> str:
    """Return an account of a failure for a sentence: its first line, without full stop, nor user and password of an address."""
    line = re.sub(r"//[^/@\s]*@", "//", next(iter(account.splitlines()), ""))
    return line.rstrip(".") if len(line) <= LONGEST_ACCOUNT else f"{line[:LONGEST_ACCOUNT]}…"


def _requirement() -> str:
    """Return what a registered model needs: this release, or no particular one where the package runs from a checkout."""
    try:
        return f"modelyard=={installed_version('modelyard')}"
    except PackageNotFoundError:
        return "modelyard"


def _tag(value: Any) -> str:
    return value if isinstance(value, str) else f"{value}"
