"""UNets for segmentation: network, losses, Lightning module, predictions, figures, and what choices change."""
