"""What today's torch needs to work with mmengine 0.10, each mend in a function of its name."""

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer


def allow_mmengine_checkpoints() -> None:
    """Let `torch.load(weights_only=True)` read the harmless types that mmengine's checkpoints hold.

    mmengine saves its log history: `HistoryBuffer` objects with numpy arrays and scalars in them.
    torch has refused these since 2.6, and mmengine's `resume` fails. Nothing else is allowed, and
    the check stays on.
    """
    # numpy 2 moved these; a checkpoint written by numpy 1 names the old place.
    multiarray = getattr(np, "_core", None) or np.core
    reconstruct, scalar = multiarray.multiarray._reconstruct, multiarray.multiarray.scalar
    number_types = [type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.int32, bool)]
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            np.ndarray,
            np.dtype,
            *number_types,
            reconstruct,
            scalar,
            (reconstruct, "numpy.core.multiarray._reconstruct"),
            (scalar, "numpy.core.multiarray.scalar"),
        ]
    )
