"""ComfyUI, as far as this plugin knows it: the only folder that imports it.

Works from version 0.3.64 on; what came later is asked for by name and left out where it is not there.
"""
