"""From hospital files to a store release: every check happens here, before anything is visible."""
