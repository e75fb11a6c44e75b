"""Does a fixed vector forget the beginning of long inputs, and does attention mend it?"""
