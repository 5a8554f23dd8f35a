"""Settings: the tutorial's `.env`, defaults, and bad values that are named."""

import os
import subprocess
from pathlib import Path

import pytest

from chatbot.config import ModelAddress, Settings, misspelled, read_settings
from chatbot.config.reader import check_authorities
from chatbot.errors import ConfigurationError
from chatbot.store.cluster.topology import ClusterAddress
from devtools.paths import BIN, ROOT


def settings(**environ: str) -> Settings:
    return Settings.from_env(environ)


def test_nothing_set_is_one_machine() -> None:
    found = settings()
    assert found == Settings()
    assert found.redis.broker_url == found.redis.url == "redis://127.0.0.1:6379/0"


def test_the_tutorials_names_work() -> None:
    found = settings(
        REDIS_HOST="redis.example.org",
        REDIS_PORT="10305",
        REDIS_USER="ada",
        REDIS_PASSWORD="p@ss/w:rd",
        HUGGINFACE_INFERENCE_TOKEN="hf_abc",
        MODEL_URL="https://api-inference.huggingface.co/models/EleutherAI/gpt-j-6B",
    )
    assert found.redis.url == "redis://ada:p%40ss%2Fw%3Ard@redis.example.org:10305/0"
    assert found.redis.broker_url == found.redis.url
    assert [server.api for server in found.model.servers] == ["huggingface"]
    assert found.model.token == "hf_abc"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"REDIS_URL": "h:1234", "REDIS_USER": "u", "REDIS_PASSWORD": "p"}, "redis://u:p@h:1234"),
        ({"REDIS_URL": "redis://h:1/2", "REDIS_PASSWORD": "p"}, "redis://:p@h:1/2"),
        ({"REDIS_URL": "rediss://a:b@h:1/2", "REDIS_PASSWORD": "p"}, "rediss://a:b@h:1/2"),
        ({"REDIS_URL": "redis://ada@h", "REDIS_PASSWORD": "p@"}, "redis://ada:p%40@h"),
        ({"REDIS_URL": "redis://ada:@h"}, "redis://ada:@h"),
        ({"REDIS_URL": "unix:///run/redis.sock"}, "unix:///run/redis.sock"),
        ({"REDIS_URL": "redis+socket:///run/redis.sock?virtual_host=2"}, "unix:///run/redis.sock?db=2"),
        ({"REDIS_URL": "unix:///run/r.sock?password=p/w", "REDIS_PASSWORD": "x"}, "unix://:p%2Fw@/run/r.sock"),
        ({"REDIS_URL": "unix:///run/r.sock", "REDIS_PASSWORD": "p"}, "unix://:p@/run/r.sock"),
        ({"REDIS_URL": "rediss://h/1?ssl_cert_reqs=CERT_NONE"}, "rediss://h/1?ssl_cert_reqs=none"),
        ({"REDIS_URL": "redis://h?db=3&socket_timeout=3"}, "redis://h/3?socket_timeout=3"),
        ({"REDIS_HOST": "h:1234"}, "redis://h:1234/0"),
        ({"REDIS_HOST": "::1", "REDIS_PORT": "7"}, "redis://[::1]:7/0"),
        ({"REDIS_PORT": "7000"}, "redis://127.0.0.1:7000/0"),
        ({"REDIS_URL": ""}, "redis://127.0.0.1:6379/0"),
    ],
)
def test_the_address_of_redis_is_put_together(environ: dict[str, str], url: str) -> None:
    assert Settings.from_env(environ).redis.url == url


@pytest.mark.parametrize(
    ("url", "api", "posted_to"),
    [
        ("http://h/v1", "openai-chat", "http://h/v1/chat/completions"),
        ("http://h/v1/", "openai-chat", "http://h/v1/chat/completions"),
        ("http://h/v1/completions", "openai-completions", "http://h/v1/completions"),
        ("http://h/v1/chat/completions", "openai-chat", "http://h/v1/chat/completions"),
        ("http://h/v1/responses", "openai-responses", "http://h/v1/responses"),
        ("http://h/generate", "huggingface", "http://h/generate"),
        ("http://h:8080", "huggingface", "http://h:8080"),
    ],
)
def test_the_address_tells_the_protocol(url: str, api: str, posted_to: str) -> None:
    assert settings(MODEL_URL=url).model.servers == (ModelAddress(posted_to, api),)


def test_hosts_are_compared_in_one_spelling() -> None:
    found = settings(ALLOWED_HOSTS="Chat.Example.org., .example.net, 10.0.0.1, ::1, [2001:DB8:0:0::1], *")
    assert found.web.allowed_hosts == ("chat.example.org", ".example.net", "10.0.0.1", "[::1]", "[2001:db8::1]", "*")


def test_the_protocol_may_be_named() -> None:
    found = settings(MODEL_URL="http://h/v1", MODEL_API="openai-completions")
    assert found.model.servers == (ModelAddress("http://h/v1/completions", "openai-completions"),)
    found = settings(MODEL_URL="http://h:81", MODEL_API="openai-completions")
    assert found.model.servers == (ModelAddress("http://h:81/v1/completions", "openai-completions"),)
    found = settings(MODEL_URL="http://h/v1/completions/")
    assert found.model.servers == (ModelAddress("http://h/v1/completions", "openai-completions"),)
    found = settings(MODEL_URL="http://h/odd", MODEL_API="openai-chat")
    assert found.model.servers == (ModelAddress("http://h/odd", "openai-chat"),)


def test_several_model_servers_may_be_named_each_with_its_protocol() -> None:
    found = settings(MODEL_URL="http://a/v1/completions, http://b/generate,http://c:81/v1/,")
    assert found.model.servers == (
        ModelAddress("http://a/v1/completions", "openai-completions"),
        ModelAddress("http://b/generate", "huggingface"),
        ModelAddress("http://c:81/v1/chat/completions", "openai-chat"),
    )


@pytest.mark.parametrize("given", [{}, {"MODEL_API": "python"}, {"MODEL_API": "python", "MODEL_URL": "http://h/v1"}])
def test_a_callable_has_no_server_and_defaults_of_its_own(given: dict[str, str]) -> None:
    model = settings(MODEL_CALLABLE="my.bot:reply", **given).model
    assert (model.api, model.callable, model.servers, model.name) == ("python", "my.bot:reply", (), "my.bot:reply")
    assert (model.history_messages, model.max_prompt_tokens) == (50, 32_000)
    model = settings(MODEL_CALLABLE="bot:reply", MODEL_NAME="Bot", HISTORY_MESSAGES="8", **given).model
    assert (model.name, model.history_messages) == ("Bot", 8)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"MODEL_API": "python"}, "name the function in MODEL_CALLABLE"),
        ({"MODEL_CALLABLE": "bot:reply", "MODEL_URL": "http://h/v1"}, "remove one, or set MODEL_API=python"),
        ({"MODEL_CALLABLE": "bot:reply", "MODEL_API": "openai-chat"}, "remove one, or set MODEL_API=python"),
    ],
)
def test_a_callable_beside_a_server_and_one_without_a_name_are_refused(given: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        settings(**given)


def test_credentials_in_a_model_servers_address_are_not_shown() -> None:
    assert "secret" not in repr(settings(MODEL_URL="https://ada:secret@h/v1?key=secret"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "abc"),
        ("PORT", "0"),
        ("PORT", "70000"),
        ("SESSION_TTL", "-1"),
        ("SESSION_TTL", "1h"),
        ("MODEL_TIMEOUT", "0"),
        ("MODEL_TIMEOUT", "nan"),
        ("MODEL_API", "gpt"),
        ("MODEL_CALLABLE", "bot"),
        ("MODEL_CALLABLE", "bot.py:reply()"),
        ("MODEL_CALLABLE", ":reply"),
        ("MODEL_CALLABLE", "my-bot:reply"),
        ("MODEL_URL", "localhost:8080"),
        ("MODEL_URL", "http://h:port/"),
        ("MODEL_URL", "http://h/v1,localhost:8080"),
        ("MODEL_URL", "http://h/v1,http://h/v1"),
        ("MODEL_URL", ","),
        ("MODEL_URL", "http:///path"),
        ("MODEL_URL", "http://a b/v1"),
        ("MODEL_REST", "-1"),
        ("USE_CACHE", "perhaps"),
        ("REDIS_URL", "http://h"),
        ("REDIS_URL", "redis://h/zero"),
        ("REDIS_URL", "redis://h/0/1"),
        ("REDIS_URL", "redis://h/-1"),
        ("REDIS_URL", "redis://h?nonsense=1"),
        ("REDIS_URL", "redis://h?decode_responses=true"),
        ("REDIS_URL", "redis://h?socket_timeout=soon"),
        ("REDIS_URL", "redis://h?socket_timeout=nan"),
        ("REDIS_URL", "redis://h?socket_timeout=0.1"),
        ("REDIS_URL", "redis://h?ssl_cert_reqs=none"),
        ("REDIS_URL", "rediss://h?ssl_cert_reqs=maybe"),
        ("REDIS_URL", "rediss://h?ssl_ca_certs=/nowhere.pem"),
        ("REDIS_URL", f"rediss://h?ssl_ca_certs={__file__}"),
        ("REDIS_URL", "rediss://h?ssl_ca_path=/nowhere"),
        ("REDIS_URL", "redis://h?sentinel_password=x"),
        ("REDIS_URL", "redis://h:0x/0"),
        ("REDIS_URL", "unix://"),
        ("REDIS_URL", "sentinel://h1,h2/chat/zero"),
        ("REDIS_URL", "redis+cluster://h1,h2/1"),
        ("REDIS_URL", "redis+cluster://h1,h2?db=1"),
        ("REDIS_URL", "redis+cluster://h1;h2"),
        ("REDIS_URL", "redis+cluster://h1,"),
        ("REDIS_URL", "redis+cluster://h1:0x,h2"),
        ("REDIS_URL", "redis+cluster://h1,h1:6379"),
        ("REDIS_URL", "redis+cluster://h1,h_2!"),
        ("REDIS_URL", "redis+cluster://h1?ssl_cert_reqs=none"),
        ("REDIS_URL", "redis+cluster://h1?sentinel_password=x"),
        ("REDIS_URL", "redis+cluster://word@h1,h2"),
        ("REDIS_URL", "redis+cluster://h1,h2,redis://h3"),
        ("REDIS_URL", "redis://word@h"),
        ("REDIS_URL", '"redis://h"'),
        ("REDIS_HOST", "ada:word@h"),
        ("MODEL_URL", "http://h/v1#part"),
        ("MODEL_NAME", "'gpt'"),
        ("SCRIPT_NAME", "chat-app"),
        ("SCRIPT_NAME", "/chat app"),
        ("SCRIPT_NAME", "//other.example"),
        ("SCRIPT_NAME", "/.."),
        ("HOST", "[::1"),
        ("HOST", "*"),
        ("HUGGINGFACE_INFERENCE_TOKEN", "hf_a\nb"),
        ("METRICS_TOKEN", "a b"),
        ("FLOWER_BASIC_AUTH", "ada"),
        ("REDIS_HOST", "redis://h"),
        ("REDIS_HOST", "h:1:2"),
        ("REDIS_HOST", "h:99999"),
        ("REDIS_HOST", "999.1.1.1"),
        ("REDIS_PORT", "x"),
        ("CELERY_BROKER_URL", "sqs://h"),
        ("CELERY_BROKER_URL", "amqp://"),
        ("CELERY_BROKER_URL", "amqp://h:port"),
        ("CELERY_BROKER_URL", "amqp://999.1.1.1"),
        ("CELERY_BROKER_URL", "amqp://h/chat?heartbeat=3"),
        ("REDIS_URL", "amqp://h"),
        ("ALLOWED_ORIGINS", "chat.example.org"),
        ("ALLOWED_ORIGINS", "https://x:443"),
        ("ALLOWED_ORIGINS", "http://x:80"),
        ("ALLOWED_ORIGINS", "https://*.example.org"),
        ("ALLOWED_ORIGINS", "https://x:port"),
        ("ALLOWED_ORIGINS", "https://x/path"),
        ("ALLOWED_ORIGINS", "https://user@x"),
        ("ALLOWED_HOSTS", "https://chat.example.org"),
        ("ALLOWED_HOSTS", "chat.example.org:443"),
        ("ALLOWED_HOSTS", "*.example.org"),
        ("ALLOWED_HOSTS", "chat.example.org/path"),
        ("ALLOWED_HOSTS", "chat example"),
        ("ALLOWED_HOSTS", "10.0.0.0/8"),
        ("ALLOWED_HOSTS", "."),
        ("HOST", "not a host"),
        ("HOST", "999.1.1.1"),
        ("HOST", "h:80"),
        ("HOST", "http://x"),
        ("WEB_CONCURRENCY", "many"),
        ("WEB_CONCURRENCY", "0"),
        ("FLOWER_PORT", "x"),
        ("FLOWER_PORT", "0"),
        ("FLOWER_ADDRESS", "a:b"),
        ("FLOWER_MAX_TASKS", "many"),
        ("FLOWER_PURGE_OFFLINE_WORKERS", "-1"),
        ("FLOWER_UNAUTHENTICATED", "perhaps"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("WORKER_HEALTH_TIMEOUT", "0"),
        ("HISTORY_MESSAGES", "0"),
        ("MAX_HISTORY_MESSAGES", "-1"),
        ("MAX_SOCKETS_PER_SESSION", "0"),
        ("MAX_SOCKETS_PER_ADDRESS", "-1"),
        ("RATELIMIT_FAILED_HANDSHAKES", "few"),
        ("MAX_QUEUE_AGE", "-1"),
        ("MAX_QUEUE_AGE", "soon"),
        ("RATELIMIT_ENABLED", "maybe"),
        ("RATELIMIT_SESSIONS", "many"),
        ("RATELIMIT_SESSIONS", "0/minute"),
        ("RATELIMIT_SESSION_MESSAGES", "5/fortnight"),
        ("RATELIMIT_ADDRESS_MESSAGES", "-1/minute"),
        ("TRUSTED_PROXIES", "proxy.example"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TRUSTED_PROXIES", "-1"),
        ("TRUSTED_PROXIES", "0.0.0.0/0"),
        ("TRUSTED_PROXIES", "10.0.0.1, ::/0"),
        ("TEMPERATURE", "hot"),
        ("TEMPERATURE", "-1"),
        ("TOP_P", "1.5"),
        ("SEED", "x"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} "):
        settings(**{name: value})


#: `SECRET` stands for a part of a password.
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value.replace("redis", scheme))
            for name in ("REDIS_URL", "CELERY_BROKER_URL")
            for scheme in ("redis", "rediss")
            for value in (
                "redis://:SECRET#SECRET@h:6379/0",
                "redis://:SECRET/SECRET@h:6379/0",
                "redis://:SECRET?SECRET@h:6379/0",
                "redis://ada:12/SECRET@h:6379/0",
                "redis://:SEC@RET/SECRET@h:6379/0",
                "redis://:SECRET SECRET@h:6379/0",
                "redis://:SECRET[@h:6379/0",
            )
        ),
        ("CELERY_BROKER_URL", "amqp://ada:SECRET#SECRET@h/chat"),
        ("CELERY_BROKER_URL", "amqp://ada:SECRET/SECRET@h/chat"),
        ("CELERY_BROKER_URL", "amqps://ada:SECRET SECRET@h/chat"),
        ("REDIS_URL", "unix://:SECRET/SECRET@/run/redis.sock"),
        ("REDIS_URL", "sentinel://:SECRET/SECRET@h1,h2/chat"),
        ("REDIS_URL", "sentinel://:SECRET#SECRET@h1,h2/chat"),
        ("REDIS_URL", "redis+cluster://:SECRET/SECRET@h1,h2"),
        ("REDIS_URL", "redis+cluster://:SECRET#SECRET@h1:1,h2:2"),
        ("MODEL_URL", "https://ada:SECRET#SECRET@h/v1"),
        ("MODEL_URL", "https://ada:SECRET/SECRET@h/v1"),
        ("MODEL_URL", "https://ada:12/SECRET@h/v1"),
        ("MODEL_URL", "https://ada:SECRET?SECRET@h/v1"),
        ("MODEL_URL", "https://ada:SECRET SECRET@h/v1"),
        ("MODEL_URL", "https://ada:SECRET,SECRET@h/v1"),
    ],
)
def test_a_password_that_is_not_percent_encoded_is_refused_and_no_part_of_it_repeated(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} .*percent-encode the password") as error:
        settings(**{name: value})
    assert "SEC" not in str(error.value)
    assert "12" not in str(error.value)


@pytest.mark.parametrize("url", ["https://h/v1/@cf/meta", "https://h/models/claude@20240229", "https://u:p@h:81/a@b"])
def test_a_model_servers_path_may_hold_an_at_sign(url: str) -> None:
    assert settings(MODEL_URL=url).model.servers[0].url == url


def test_a_login_in_the_address_excludes_a_token() -> None:
    with pytest.raises(ConfigurationError, match="remove one"):
        settings(MODEL_URL="https://ada:SECRET@h/v1", HUGGINGFACE_INFERENCE_TOKEN="hf_x")


@pytest.mark.parametrize(("given", "host"), [("::", "::"), ("[::1]", "::1"), ("localhost", "localhost")])
def test_brackets_of_an_address_are_the_programs_business(given: str, host: str) -> None:
    found = settings(HOST=given, FLOWER_ADDRESS=given)
    assert (found.web.host, found.flower.address) == (host, host)


def _unusable_env(folder: Path, problem: str) -> None:
    if problem == "folder":
        (folder / ".env").mkdir()
    elif problem == "link":
        (folder / ".env").symlink_to("/nowhere")
    else:
        (folder / ".env").write_bytes(problem.encode("latin-1"))


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        ("folder", ".env is a folder"),
        ("link", ".env is a link to a file that is not there"),
        ("MODEL_NAME=caf\xe9", ".env is not UTF-8"),
        ("\xff\xfeP\0O\0R\0T\0=\0x\0", ".env is not UTF-8"),
        ("MODEL_NAME=a\0b", ".env holds a zero byte"),
        ("# a comment\n\nPORT: 5000\n", ".env has no NAME=value in line 3"),
        ('{"REDIS_PASSWORD": "secret"}', ".env has no NAME=value in line 1: correct that line$"),
        ('MODEL_NAME="secret\nPORT=1\n', ".env has no NAME=value in line 1: correct that line$"),
        ("=secret\n", ".env has no NAME=value in line 1: correct that line$"),
        ("PORT: 5000\n=secret\n", ".env has no NAME=value in lines 1, 2: correct them$"),
    ],
)
def test_an_unusable_env_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    _unusable_env(tmp_path, problem)
    with pytest.raises(ConfigurationError, match=says):
        read_settings()


def test_an_env_file_is_read_in_each_of_its_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {})
    lines = [
        "export PORT=5001",
        "HOST = '::1'",
        "# a comment",
        "",
        'MODEL_NAME="a b"  # a remark',
        "MODEL_NOTE",
        "TOP_P=",
    ]
    (tmp_path / ".env").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    found = read_settings()
    assert (found.web.port, found.web.host, found.model.name, found.model.top_p) == (5001, "::1", "a b", None)


def test_all_that_is_wrong_is_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"SESSION_TTL": "x", "PORT": "'1'", "SSL_CERT_FILE": "/no", "REDIS_URL": "http://x"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        read_settings()
    assert [problem.partition(" ")[0] for problem in caught.value.problems] == [
        *("SSL_CERT_FILE", "REDIS_URL", "SESSION_TTL", "PORT")
    ]
    assert str(caught.value) == "; ".join(caught.value.problems)


@pytest.mark.parametrize("variable", ["CELERY_CONFIG_MODULE", "CELERY_LOADER"])
def test_a_module_that_celery_would_import_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "nowhere")
    with pytest.raises(ConfigurationError, match=f"{variable} has no use here"):
        read_settings()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_authorities_that_are_not_there_are_named(variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} names a file that is not there"):
        check_authorities({variable: "/nowhere.pem"})
    with pytest.raises(ConfigurationError, match=f"{variable} .* holds no certificate"):
        check_authorities({variable: __file__})


@pytest.mark.parametrize(
    "command",
    [("gunicorn", "wsgi:app"), ("celery", "-A", "celery_worker", "worker"), ("flask", "--app", "wsgi", "model-check")],
)
def test_every_process_ends_with_one_line_that_names_the_setting(command: tuple[str, ...]) -> None:
    name, *arguments = command
    ended = subprocess.run(
        [str(BIN / name), *arguments],
        env={**os.environ, "MODEL_URL": "localhost:8080"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode != 0
    assert "Settings: MODEL_URL must begin with one of http://, https://" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_limits_are_read() -> None:
    found = settings(
        RATELIMIT_ENABLED="False",
        RATELIMIT_SESSIONS="5/second; 100 per hour",
        MAX_QUEUE_AGE="0",
        TRUSTED_PROXIES="127.0.0.1, 10.1.2.3/8, ::1",
    )
    assert not found.limits.rates_enabled
    assert [(rate.amount, rate.get_expiry()) for rate in found.limits.new_sessions] == [(5, 1), (100, 3600)]
    assert found.limits.max_queue_age == 0
    assert isinstance(found.web.trusted_proxies, tuple)
    assert [str(network) for network in found.web.trusted_proxies] == ["127.0.0.1/32", "10.0.0.0/8", "::1/128"]
    assert settings(TRUSTED_PROXIES="2").web.trusted_proxies == 2


def test_secrets_are_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as error:
        settings(REDIS_URL="amqp://u:secret@h")
    assert "secret" not in str(error.value)
    assert "secret" not in repr(settings(REDIS_URL="redis://u:secret@h", HUGGINGFACE_INFERENCE_TOKEN="secret"))
    # Connections of the queue hold it, and their pools are shown with their options.
    assert "secret" not in repr(ClusterAddress.parse("redis+cluster://u:secret@h"))
    assert "secret" not in repr(settings(METRICS_TOKEN="secret"))


def test_a_misspelled_variable_is_found_with_the_nearest_name() -> None:
    environ = {
        "MODEL_ULR": "http://h",
        "MAX_MESAGE_LENGTH": "1",
        "MODEL_URL": "http://h",
        "PATH": "/bin",
        "FLOWER_UNAUTHENTICATED_API": "true",
        "HOSTNAME": "h",
    }
    assert misspelled(environ) == [("MODEL_ULR", "MODEL_URL"), ("MAX_MESAGE_LENGTH", "MAX_MESSAGE_LENGTH")]


def test_in_the_environment_only_sure_slips_of_short_names_and_of_case_are_named() -> None:
    foreign = ("PORTS", "HOSTS", "SEEDS", "GHOST", "host", "http_proxy", "EXPORT", "TOP", "OPENAI_API_KEY")
    environ = dict.fromkeys((*foreign, "PORTT", "HSOT", "max_new_tokens"), "1")
    assert misspelled(environ) == [("PORTT", "PORT"), ("HSOT", "HOST"), ("max_new_tokens", "MAX_NEW_TOKENS")]


def test_in_the_file_every_name_is_named_that_nothing_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read = ("OTEL_SERVICE_NAME", "GUNICORN_CMD_ARGS", "https_proxy", "FLOWER_DEBUG", "LOCAL_DATA_DIR", "MODEL_NAME")
    names = (*read, "PORTT", "port", "max_new_tokens", "MAX_TOKENS", "FAVOURITE_COLOUR")
    (tmp_path / ".env").write_text("".join(f"{name}=1\n" for name in names))
    environ = {**dict.fromkeys(names, "1"), "OF_THE_ENVIRONMENT": "1"}
    found: list[tuple[str, str | None]] = [
        ("PORTT", "PORT"),
        ("port", "PORT"),
        ("max_new_tokens", "MAX_NEW_TOKENS"),
        ("MAX_TOKENS", "MAX_NEW_TOKENS"),
    ]
    assert misspelled(environ) == [*found, ("FAVOURITE_COLOUR", None)]
    # The function may read variables of its own.
    with_bot = misspelled({**environ, "MODEL_CALLABLE": "bot:reply"})
    assert ("PORTT", "PORT") in with_bot
    assert ("FAVOURITE_COLOUR", None) not in with_bot


@pytest.mark.parametrize("value", ["*", "https://chat.example.org", "http://x:8080, https://[::1]:8443", "https://x/"])
def test_origins_that_browsers_send_are_taken(value: str) -> None:
    assert settings(ALLOWED_ORIGINS=value).web.allowed_origins
