"""What a client checks before it pays: parameters, input and cost, by the code the nodes use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deai.codec import decode_value, encode_value
from deai.errors import MalformedMessage, WorkloadFault
from deai.hashing import MAX_BLOB_BYTES
from deai.ports import Estimate, WorkloadInfo
from deai.tasks import FaultCode
from workloads import catalog
from workloads.faults import fault, invalid
from workloads.spec import SandboxLevel, WorkloadSpec


class InstalledWorkloads:
    """The port `Catalogue` over the specs installed here. Never imports torch."""

    def __init__(self, specs: Iterable[WorkloadSpec]) -> None:
        # The newest version of each; older ones remain in the worker for tasks that name them.
        self._specs = {spec.id: spec for spec in sorted(specs, key=lambda s: (s.id, s.version))}
        self._infos = {spec.id: _describe(spec) for spec in self._specs.values()}
        self._last: tuple[str, bytes, dict[str, Any]] = ("", b"", {})

    @classmethod
    def load(cls, extra: Iterable[str] = (), only: Iterable[str] = ()) -> InstalledWorkloads:
        """Everything installed, or of that the ids in `only`; raise `ConfigError`."""
        wanted = set(only)
        specs = catalog.load(extra=extra)
        return cls(spec for spec in specs if not wanted or spec.id in wanted)

    def __contains__(self, workload: object) -> bool:
        return workload in self._specs

    def within(self, level: SandboxLevel) -> InstalledWorkloads:
        """Those that ask for no stronger lock than `level`."""
        return InstalledWorkloads(
            spec for spec in self._specs.values() if spec.sandbox.rank <= level.rank
        )

    def list(self) -> tuple[WorkloadInfo, ...]:
        """Every workload, sorted by name."""
        return tuple(self._infos.values())

    def info(self, workload: str) -> WorkloadInfo:
        """One of them; raise `WorkloadFault`."""
        return self._infos[self.spec(workload).id]

    def spec(self, workload: str) -> WorkloadSpec:
        """The whole contract of one; raise `WorkloadFault`."""
        if workload not in self._specs:
            fault(
                FaultCode.INVALID_PARAMETERS,
                f"no workload is called {workload[:80]!r}",
                hint=f"one of: {', '.join(self._specs)}",
            )
        return self._specs[workload]

    def parameters(self, workload: str, given: Mapping[str, Any]) -> bytes:
        """Checked, with defaults, as canonical bytes; raise `WorkloadFault`."""
        checked = self.spec(workload).check_parameters(given)
        try:
            return encode_value(checked)
        except MalformedMessage as error:
            raise WorkloadFault(str(error), fault=int(FaultCode.INVALID_PARAMETERS)) from error

    def model(self, workload: str, parameters: bytes) -> str:
        """The digest of the model that canonical parameters name; empty where none is used."""
        spec = self.spec(workload)
        return str(self._decoded(spec, parameters)["model"]) if spec.models else ""

    def check(self, workload: str, parameters: bytes, data: bytes) -> Estimate:
        """Parse an input as every node will; raise `WorkloadFault`."""
        spec = self.spec(workload)
        if len(data) > MAX_BLOB_BYTES:
            fault(FaultCode.INPUT_TOO_LARGE, f"{len(data)} bytes; at most {MAX_BLOB_BYTES}")
        # Thousands of inputs a second come with the same parameters.
        of, given, checked = self._last
        if (of, given) != (workload, parameters):
            checked = self._decoded(spec, parameters)
            self._last = (workload, parameters, checked)
        return spec.check_input(dict(checked), data)

    def convert(self, workload: str, data: bytes, suffix: str) -> bytes:
        """An output as `.npy`, `.jsonl` or `.json`; raise `WorkloadFault` if it has none."""
        try:
            converted = self.spec(workload).convert(data, suffix)
        except ValueError as error:
            raise WorkloadFault(str(error), fault=int(FaultCode.MALFORMED_INPUT)) from error
        if converted is None:
            fault(
                FaultCode.INVALID_PARAMETERS, f"results of {workload} have no form {suffix[:20]!r}"
            )
        return converted

    @staticmethod
    def _decoded(spec: WorkloadSpec, parameters: bytes) -> dict[str, Any]:
        try:
            given = decode_value(parameters)
        except MalformedMessage as error:
            raise WorkloadFault(str(error), fault=int(FaultCode.INVALID_PARAMETERS)) from error
        if not isinstance(given, dict):
            invalid("parameters are not an object")
        return spec.check_parameters(given)


def _describe(spec: WorkloadSpec) -> WorkloadInfo:
    return WorkloadInfo(
        id=spec.id,
        version=spec.version,
        title=spec.title,
        description=spec.description,
        policies=tuple(policy.label for policy in spec.policies),
        default_policy=spec.default_policy.label,
        determinism=spec.determinism.value,
        unit=spec.unit,
        models=spec.models,
        parameters=dict(spec.parameters_schema),
        output_type=spec.output_type,
        input=spec.input_form,
        example=spec.examples[0][1].decode() if spec.examples else "",
    )
