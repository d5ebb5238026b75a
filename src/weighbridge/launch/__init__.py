"""Which command makes an engine do what was planned?"""
