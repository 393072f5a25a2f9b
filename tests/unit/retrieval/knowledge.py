"""A small knowledge base for tests."""

from __future__ import annotations

from modelyard.retrieval import Document, parse_document

EFFECTS = """---
title: Effects in React
topic: react
kind: guide
---
# Effects in React

`useEffect` runs after the browser has painted. It must return a cleanup function when it subscribes to anything.

## Running twice

In development, Strict Mode mounts every component twice, so an effect runs twice. Production mounts once.

```tsx
useEffect(() => {
  const socket = connect();

  return () => socket.close();
}, []);
```
"""

LAYOUT = """---
title: Centring with CSS grid
topic: css
kind: example
---
# Centring with CSS grid

A grid container centres its child with `place-items: center`.

- Flexbox needs `justify-content` and `align-items`, e.g. on a row. Both take `center`.
- Set a height, or there is nothing to centre in.

| property | default |
| --- | --- |
| `align-items` | stretch |
"""

LIMITS = """---
title: Rate limits of the API
topic: data_fetching
kind: reference
---
# Rate limits of the API

The API allows 120 requests a minute. Status 429 carries a `Retry-After` header in seconds.
"""


def knowledge() -> tuple[Document, ...]:
    return (parse_document("effects", EFFECTS), parse_document("layout", LAYOUT), parse_document("limits", LIMITS))
