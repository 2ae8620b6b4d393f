"""Chat templates that take tools as those of Qwen 2.5, Llama 3.1 and Mistral do, for the tests' tokenizer."""

from __future__ import annotations

from tests.checkpoints import CHAT_TEMPLATE

HERMES = (
    "{% if tools %}<|im_start|>system\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}\n\n{% endif %}"
    "<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools>\n"
    "Call as <tool_call>\n{}\n</tool_call><|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'tool' %}"
    "<|im_start|>user\n<tool_response>\n{{ m['content'] }}\n</tool_response><|im_end|>\n"
    "{% elif not (tools and loop.first and m['role'] == 'system') %}<|im_start|>{{ m['role'] }}"
    "{% if m['content'] %}\n{{ m['content'] }}{% endif %}{% for call in m['tool_calls'] or [] %}"
    '\n<tool_call>\n{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{% if tools %}<|im_start|>system\nEnvironment: ipython\n"
    "{% for tool in tools %}{{ tool | tojson(indent=4) }}\n\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if 'tool_calls' in m %}"
    "{% if m.tool_calls | length != 1 %}{{ raise_exception('This model only supports single tool-calls at once!') }}"
    "{% endif %}<|im_start|>assistant\n"
    '{"name": "{{ m.tool_calls[0].function.name }}", "parameters": {{ m.tool_calls[0].function.arguments | tojson }}}'
    "<|im_end|>\n{% else %}<|im_start|>{{ 'ipython' if m['role'] == 'tool' else m['role'] }}\n"
    "{{ m['content'] | trim }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MISTRAL = (
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{% if tools %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST] {{ m['content'] }}[/INST]"
    "{% elif m['role'] == 'tool' %}{% if m['tool_call_id'] | length != 9 %}{{ raise_exception('length 9') }}{% endif %}"
    '[TOOL_RESULTS] {"content": {{ m[\'content\'] | tojson }}, "call_id": "{{ m[\'tool_call_id\'] }}"}[/TOOL_RESULTS]'
    "{% elif m['tool_calls'] %}[TOOL_CALLS] [{% for call in m['tool_calls'] %}"
    "{% if call.id | length != 9 %}{{ raise_exception('length 9') }}{% endif %}"
    "{{ {'name': call.function.name, 'arguments': call.function.arguments, 'id': call.id} | tojson }}"
    "{% if not loop.last %}, {% endif %}{% endfor %}]<|im_end|>"
    "{% else %} {{ m['content'] }}<|im_end|>{% endif %}{% endfor %}"
)
TEMPLATES = {"hermes": HERMES, "llama": LLAMA, "mistral": MISTRAL, "told": CHAT_TEMPLATE}
