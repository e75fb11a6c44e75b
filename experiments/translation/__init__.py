"""How well do none, additive and a Transformer translate, at equal data, on two CPU cores?"""
