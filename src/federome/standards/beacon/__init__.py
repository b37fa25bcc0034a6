"""GA4GH Beacon v2 over published frequency tables: which variants are seen where, and how often.

``sequences`` names chromosomes as others do, ``shelf`` holds the tables ready to be answered from, ``request`` reads
what was asked, ``documents`` says what is answered, ``server`` puts them behind HTTP.
"""
