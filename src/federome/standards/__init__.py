"""The open faces: GA4GH services over the network."""
