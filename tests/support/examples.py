"""How hard property tests try: fully, or lightly where a minute is all there is (`make check`)."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import HealthCheck, settings

LIGHT: Final = "light"
RANDOM: Final = "random"
"""Other examples in every run, for whoever looks for bugs: `pytest --hypothesis-profile=random`."""
LIGHT_EXAMPLES: Final = 20


def register() -> None:
    """All profiles; the full one is loaded: the same examples each time, none too slow."""
    patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
    settings.register_profile(RANDOM, patient)
    full = settings(patient, derandomize=True)
    settings.register_profile("deai", full)
    settings.register_profile(LIGHT, full, max_examples=LIGHT_EXAMPLES)
    settings.load_profile("deai")


def examples(many: int, **others: Any) -> settings:
    """Settings with `many` examples in a full run, and no more than a light run has in that."""
    is_light = settings.get_current_profile_name() == LIGHT
    return settings(max_examples=min(many, LIGHT_EXAMPLES) if is_light else many, **others)
