"""JSON that can tell whether it is what was written: it holds its own sha256."""

import hashlib
import json
import pathlib
from typing import Any

Content = dict[str, Any]


def sealed(content: Content) -> bytes:
    """The bytes of a file, the sha256 of its content among them: any changed byte can be told."""
    def text(content):
        return (json.dumps(content, indent=1, sort_keys=True) + '\n').encode()
    return text(content | {'sha256': hashlib.sha256(text(content)).hexdigest()})


def unsealed(text: bytes) -> Content | None:
    """The content of such a file, its sha256 among it; None where it is not what was written."""
    try:
        content = json.loads(text)
        rest = {key: value for key, value in content.items() if key != 'sha256'}
        return content if sealed(rest) == text else None
    except (ValueError, AttributeError, TypeError):
        return None


def sha256(path: pathlib.Path) -> str:
    """Of the bytes of a file, in hexadecimal digits."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
