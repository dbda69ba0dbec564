"""Types of images in memory and of their bytes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Buffer = bytes | memoryview
#: RGB, (H, W, 3).
RGBArray = NDArray[np.uint8]
#: (H, W) or (H, W, C), of any type and channel order.
Pixels = NDArray[Any]
#: (H, W, C).
Shape = tuple[int, int, int]
