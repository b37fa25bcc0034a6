"""From a hospital's files to a released, catalogued dataset: inspect, map, validate, harmonise, judge, release."""
