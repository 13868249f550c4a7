"""One small server that gives applications everything they need from local models."""
