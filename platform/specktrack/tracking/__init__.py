"""Sessions: one object followed through one clip."""
