"""Web pages for everybody, drawn on the server: complete without JavaScript, talking to the network layer only."""
