"""Contrastive training and fine-tuning of any open_clip model."""
