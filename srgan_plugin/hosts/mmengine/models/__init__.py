"""Models, their networks and losses, and the data preprocessor."""

from . import data_preprocessor, model_utils, modules, sr_model, srgan

__all__ = ["data_preprocessor", "model_utils", "modules", "sr_model", "srgan"]
