"""Pictures in Mermaid become SVG while the site is built (mkdocs.yml names this), so that they show without a network.

Material for MkDocs would load Mermaid from elsewhere in the browser.
"""

from typing import Any

import mmdr


def picture(source: str, *_: Any, **__: Any) -> str:
    """The HTML of a picture: SVG on white, so that its black lines show on a dark page too; wide ones can be moved.

    Args:
        source: in Mermaid.
    """
    return f'<div style="background:#fff;padding:.5rem;overflow-x:auto">{mmdr.render(source).svg()}</div>'
