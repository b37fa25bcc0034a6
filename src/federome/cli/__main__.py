"""``python -m federome.cli`` does what ``federome`` does."""

from federome.cli import main

main()
