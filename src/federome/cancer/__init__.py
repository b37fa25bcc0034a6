"""Cancer: what a hospital brings (tumours, variants, families) and what it is told about them."""
