"""One-Step Restore as a ComfyUI plugin; see `nodes.extension`."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Return the extension. ComfyUI reports an exception here without its traceback, so it is logged."""
    import logging

    try:
        # Imported here: this file must also be importable as what it is not, a test package of pytest.
        from .nodes.extension import OneStepRestoreExtension
    except Exception:
        logging.getLogger(__name__).exception("One-Step Restore could not be loaded")
        raise
    return OneStepRestoreExtension()
