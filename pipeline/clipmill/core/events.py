"""The names of `clipmill.core.log` under which events were told first."""

from clipmill.core.log import VARIABLE, Steps, as_json, emit, switched_on

__all__ = ["VARIABLE", "Steps", "as_json", "emit", "switched_on"]
