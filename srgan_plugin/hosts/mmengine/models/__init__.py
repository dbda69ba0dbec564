"""Models, their networks and losses, and the data preprocessor."""

from . import data_preprocessor, model_utils, modules, sr_model, srgan  # noqa: F401 - fills the registries
