"""Training of networks: the LightningModule, losses, optimizers, schedules, early stopping, and the cached training stage."""
