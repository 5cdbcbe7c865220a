"""Judges of what clients saw: is a recorded history linearizable, and was every request applied at most once?"""
