"""Settings of the model and its servers."""

from __future__ import annotations

from dataclasses import dataclass

from chatbot.config import address_fields, fields
from chatbot.config.addresses import MODEL_APIS, OPENAI_CHAT, ModelAddress
from chatbot.config.declaration import setting

#: Defaults of a bot of the operator's own, which makes the prompt itself.
BOT_HISTORY_MESSAGES, BOT_PROMPT_TOKENS = 50, 32_000


@dataclass(frozen=True)
class ModelSettings:
    """The model"""

    servers: tuple[ModelAddress, ...] = setting(
        "MODEL_URL",
        (ModelAddress("http://127.0.0.1:5001/v1/chat/completions", OPENAI_CHAT),),
        address_fields.url_list("http", "https"),
        "The address to post to; several, separated by commas, share the load, and each gets the token. The path gives "
        "the protocol unless MODEL_API does: .../v1 and .../chat/completions mean openai-chat, .../completions means "
        "openai-completions, .../responses openai-responses, any other huggingface.",
        shown="http://127.0.0.1:5001/v1/chat/completions",
    )
    api: str | None = setting(
        "MODEL_API",
        None,
        fields.choice(*MODEL_APIS),
        f"The protocol: {', '.join(MODEL_APIS)}. The last is no server, but the function that MODEL_CALLABLE names.",
        shown="",
    )
    callable: str | None = setting(
        "MODEL_CALLABLE",
        None,
        fields.callable_name(),
        "A function of your own that answers in place of a server, such as bot:reply for the function reply in bot.py "
        "in the working folder; docs/bots.md describes it. By default MODEL_API is then python, MODEL_NAME this name, "
        f"HISTORY_MESSAGES {BOT_HISTORY_MESSAGES} and MAX_PROMPT_TOKENS {BOT_PROMPT_TOKENS}.",
        shown="",
    )
    name: str = setting("MODEL_NAME", "EleutherAI/gpt-j-6B", fields.text(), "The model to ask for.")
    note: str = setting("MODEL_NOTE", "", fields.text(), "Shown on the page after the model's name: its size, say.")
    token: str | None = setting(
        "HUGGINGFACE_INFERENCE_TOKEN",
        None,
        fields.credential(),
        "Sent as a bearer token; the spelling HUGGINFACE_INFERENCE_TOKEN works too.",
        secret=True,
    )
    client_certificate: tuple[str, ...] = setting(
        "MODEL_CLIENT_CERT",
        (),
        fields.certificate(),
        "A client certificate for https: a PEM file with its key, or two files, the certificate and the key without a "
        "password, separated by a comma.",
        shown="",
    )
    max_new_tokens: int = setting("MAX_NEW_TOKENS", 256, fields.integer(1, 1_000_000), "Tokens of a reply at most.")
    history_messages: int = setting(
        "HISTORY_MESSAGES",
        6,
        fields.integer(1, 10_000),
        "Messages that a prompt holds at least, the new one included. It grows to twice as many and is then cut to "
        "these at once, so that the model server finds its beginning in its cache.",
    )
    max_prompt_tokens: int = setting(
        "MAX_PROMPT_TOKENS",
        1792,
        fields.integer(1, 10_000_000),
        "Older turns are left out of a prompt whose estimated length is above this, down to half of it at once; the "
        "newest message never is. A request to /v1 that is longer is refused, unless it has truncation: auto.",
    )
    temperature: float | None = setting(
        "TEMPERATURE", None, fields.fraction(0, 5), "Left to the model server unless set, as are the next two."
    )
    top_p: float | None = setting("TOP_P", None, fields.fraction(0, 1), "Nucleus sampling.")
    seed: int | None = setting("SEED", None, fields.integer(0, 2**31 - 1), "The seed of sampling.")
    use_cache: bool | None = setting(
        "USE_CACHE", None, fields.boolean(), "true or false; a parameter of the text-generation protocol alone."
    )
    continuing: str = setting(
        "MODEL_CONTINUE",
        "auto",
        fields.choice("auto", "continue_final_message", "prefix", "prefill", "off"),
        "How a chat model continues a reply whose worker or stream failed: by the parameters of vLLM and SGLang, by "
        "Mistral's and DeepSeek's field of the message, or because the last message is the assistant's. auto finds "
        "out; off generates such replies from the beginning.",
    )
    system_prompt: str = setting("SYSTEM_PROMPT", "", fields.text(), "Instructions for chat models.")
    keep_reasoning: bool = setting("MODEL_KEEP_REASONING", False, fields.boolean(), "Prompts hold earlier thinking.")
    request_id_header: str = setting(
        "MODEL_REQUEST_ID_HEADER",
        "X-Request-Id",
        fields.header(),
        "The header with `<session id>:<message id>` for the model server's log; off sends none.",
    )
    session_header: str = setting(
        "MODEL_SESSION_HEADER",
        "",
        fields.header(),
        "A header with the session's id, by which a router in front of servers can keep a session at one of them. "
        "The chat protocol has the id in prompt_cache_key besides.",
    )
    connect_timeout: float = setting("MODEL_CONNECT_TIMEOUT", 5.0, fields.seconds(), "Seconds to connect.")
    read_timeout: float = setting(
        "MODEL_READ_TIMEOUT", 60.0, fields.seconds(), "Seconds of silence between two chunks of a reply."
    )
    timeout: float = setting("MODEL_TIMEOUT", 120.0, fields.seconds(), "Seconds for a reply, from its first token on.")
    attempts: int = setting(
        "MODEL_ATTEMPTS", 5, fields.integer(1, 100), "Calls for one message before its failure is recorded."
    )
    rest: float = setting(
        "MODEL_REST", 30.0, fields.seconds(), "Seconds for which a failed server is avoided where there are several."
    )
    loading_timeout: float = setting(
        "MODEL_LOADING_TIMEOUT",
        300.0,
        fields.seconds(),
        "Seconds for which a server may load or be unavailable: report so, or be silent before the first token if this "
        "is longer than MODEL_READ_TIMEOUT.",
    )
