"""What a user can set: one frozen model a stage, built alike by the command line, YAML and code, and checked up front.

A field is declared once: its description is the help of the command's option and of the run file's schema.
"""

from clipmill.core.settings.base import OutputSettings, Settings, SettingsModel, build, check, explain
from clipmill.core.settings.running import RunSettings
from clipmill.core.settings.serving import ExploreSettings, ServeSettings
from clipmill.core.settings.shared import ClusterSettings, ModelSettings, Products, ProductSettings
from clipmill.core.settings.stages import (
    DEFAULT_QUERY_SAMPLE,
    DedupSettings,
    EmbedSettings,
    EvaluateSettings,
    FilterSettings,
    GateSettings,
    IndexSettings,
)
from clipmill.core.settings.texts import TextEvaluationSettings
from clipmill.core.settings.tools import (
    CompareSettings,
    ImportSettings,
    ImportVectorsSettings,
    SampleSettings,
)
from clipmill.core.settings.training import TrainSettings
from clipmill.core.settings.words import AskSettings, CaptionSettings, GeneratorSettings, RecaptionSettings

__all__ = [
    "DEFAULT_QUERY_SAMPLE",
    "AskSettings",
    "CaptionSettings",
    "ClusterSettings",
    "CompareSettings",
    "DedupSettings",
    "EmbedSettings",
    "EvaluateSettings",
    "ExploreSettings",
    "FilterSettings",
    "GateSettings",
    "GeneratorSettings",
    "ImportSettings",
    "ImportVectorsSettings",
    "IndexSettings",
    "ModelSettings",
    "OutputSettings",
    "ProductSettings",
    "Products",
    "RecaptionSettings",
    "RunSettings",
    "SampleSettings",
    "ServeSettings",
    "Settings",
    "SettingsModel",
    "TextEvaluationSettings",
    "TrainSettings",
    "build",
    "check",
    "explain",
]
