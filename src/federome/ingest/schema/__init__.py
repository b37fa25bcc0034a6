"""The minimal dataset as one LinkML schema, and what is made from it."""
