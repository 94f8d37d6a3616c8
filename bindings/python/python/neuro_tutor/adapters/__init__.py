"""Models of other libraries as providers, as they are.

```python
from neuro_tutor import Tutor
from neuro_tutor.adapters import from_litellm, from_pydantic_ai

Tutor.open("memory:", providers=from_pydantic_ai(OpenAIChatModel("gpt-5-mini")))
Tutor.open("memory:", providers=from_litellm(MyCustomLLM(), model="mine"))
```

Neither library is needed by this package; each is imported when its adapter is used.
"""

from __future__ import annotations

from ._litellm import LiteLLMProvider, from_litellm
from ._pydantic_ai import PydanticAIProvider, from_pydantic_ai

__all__ = ["LiteLLMProvider", "PydanticAIProvider", "from_litellm", "from_pydantic_ai"]
