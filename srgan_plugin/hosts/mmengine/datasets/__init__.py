"""Datasets, transforms, sampler, collate functions and the GPU loader."""

from . import collate, gpu_loader, paired_datasets, sampler, transforms  # noqa: F401 - fills the registries
