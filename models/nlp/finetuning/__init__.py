"""Teaches the sentence encoder what counts as alike here: queries and what answered them."""
