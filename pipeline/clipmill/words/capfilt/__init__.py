"""Captioning and filtering (CapFilt; Li et al. 2022): captions and texts about the same pictures, kept where they are true."""
