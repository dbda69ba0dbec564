"""Plot the curves of a training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from srgan_plugin.io.atomic import atomic_path

Curve = Sequence[Sequence[float]]


def draw(curves: Mapping[str, Curve], chosen: int, target: Path) -> None:
    """Plot the losses in one panel, and each other curve in one of its own.

    Those are scores on held-out images, and losses in dB, which are negative.

    Args:
        curves: Pairs of iteration and value by name; names of losses begin with `loss_`.
        chosen: Iteration of the bundled weights.
        target: SVG file to write; the same curves give the same file.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    losses = {
        name: curve
        for name, curve in curves.items()
        if name.startswith("loss_") and all(value > 0 for _, value in curve)
    }
    others = ({name: curves[name]} for name in curves if name not in losses)
    panels = [*filter(None, [losses]), *others]
    with matplotlib.rc_context({"svg.hashsalt": target.stem}):
        figure, rows = pyplot.subplots(
            len(panels), figsize=(8, 2.4 * len(panels)), sharex=True, squeeze=False
        )
        for axes, panel in zip(rows[:, 0], panels, strict=True):
            for name, curve in panel.items():
                marker = "" if name.startswith("loss_") else "o"
                axes.plot([x for x, _ in curve], [y for _, y in curve], label=name, marker=marker)
            axes.set_yscale("log" if panel is losses else "linear")
            axes.axvline(chosen, color="black", linewidth=1, linestyle=":", label="bundled")
            axes.legend(loc="best")
        rows[-1, 0].set_xlabel("iteration")
        figure.tight_layout()
        with atomic_path(target) as temporary:
            figure.savefig(temporary, metadata={"Date": None})
        pyplot.close(figure)
