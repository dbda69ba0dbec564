"""Upscale arrays, files and folders of images, in tiles that bound the memory."""

from .models import open_model
from .upscaler import Upscaler, upscale

__all__ = ["Upscaler", "open_model", "upscale"]
