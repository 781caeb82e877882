"""Pictures in, batches of pairs out."""
