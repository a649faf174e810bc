"""Conditional VAEs that are asked to draw the wrong label, and the judge that scores them."""

from s18_utils.cvae.classifier_module import ClassifierModule
from s18_utils.cvae.module import CVAEModule
from s18_utils.cvae.networks import ConditionalVAE

__all__ = ["CVAEModule", "ClassifierModule", "ConditionalVAE"]
