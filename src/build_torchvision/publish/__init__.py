"""Write a folder of wheels as a static package index."""
