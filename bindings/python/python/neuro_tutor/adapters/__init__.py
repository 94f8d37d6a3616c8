"""What other libraries have, used here, and what is here, used by them; a module for each library.

| module | what |
|---|---|
| `neuro_tutor.adapters.litellm` | a `CustomLLM` answers as a provider |
| `neuro_tutor.adapters.pydantic_ai` | a model of Pydantic AI answers as a provider |
| `neuro_tutor.adapters.openai_agents` | a tutor keeps the sessions of the OpenAI Agents SDK |
| `neuro_tutor.adapters.langchain` | a tutor keeps the chat histories of LangChain |

```python
from neuro_tutor import Tutor
from neuro_tutor.adapters.pydantic_ai import from_pydantic_ai

Tutor.open("memory:", providers=from_pydantic_ai(OpenAIChatModel("gpt-5-mini")))
```

No library is needed by this package; each is imported with the module that is for it, or when that is used.
"""
