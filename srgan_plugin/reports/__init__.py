"""Images and pages for people."""
