"""Reports of runs, comparisons of images, and opinion studies, as HTML pages."""
