"""Any network of the zoo under detection and segmentation heads."""
