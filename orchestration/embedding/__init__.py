"""Days and models to user embeddings: what is asked of `models.embed`, and what is published."""
