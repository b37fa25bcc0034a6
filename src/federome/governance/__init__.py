"""Who may ask what, for which purpose: pure decisions over signed documents."""
