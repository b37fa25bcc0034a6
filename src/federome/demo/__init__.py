"""A whole federation on one machine, with real and synthetic people."""
