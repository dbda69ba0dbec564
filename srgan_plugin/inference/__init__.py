"""Upscale images: tile by tile within bounded memory, whole files, whole folders."""

from .models import open_model
from .upscaler import Upscaler, upscale

__all__ = ["Upscaler", "open_model", "upscale"]
