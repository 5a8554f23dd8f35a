"""The whole way, over real processes: two web processes, two workers, one Redis."""

import threading

import requests

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, history, texts
from devtools.harness.deployment import Deployment, Process, eventually
from devtools.harness.ports import free_port
from devtools.paths import BIN


def test_many_sessions_each_get_their_own_replies(chat: Deployment) -> None:
    failures: list[str] = []

    def talk(user: int) -> None:
        with ChatClient(chat.url(user % 2)) as client:
            for number in range(3):
                asked = f"user {user} asks {number}"
                reply = client.ask(asked)
                if not reply["msg"].startswith(f"You said: {asked} ."):
                    failures.append(f"{asked} got {reply['msg']}")
            if len(client.of_type("message")) != 3:
                failures.append(f"user {user} got {len(client.of_type('message'))} replies")

    threads = [threading.Thread(target=talk, args=(user,)) for user in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_five_messages_at_once_are_answered_in_order_without_later_ones_in_the_prompt(
    chat: Deployment, model: ModelServer
) -> None:
    model.control(first=50, interval=10)
    with ChatClient(chat.url()) as client:
        for number in range(5):
            client.send(f"question {number}", f"m{number}")
        client.until("message", reply_to="m4")
        assert [frame["reply_to"] for frame in client.of_type("message")] == [f"m{n}" for n in range(5)]
        replies = [m["reply_to"] for m in history(chat.url(), client.token) if m["source"] == "bot"]
        assert replies == [f"m{n}" for n in range(5)]
    prompts = [record.prompt or "" for record in model.requests()]
    assert len(prompts) == 5
    for number, prompt in enumerate(prompts):
        assert f"Human: question {number}\nBot:" in prompt
        assert not any(f"question {later}" in prompt for later in range(number + 1, 5))


def test_prompts_begin_alike_until_their_history_is_cut_to_half(chat: Deployment, model: ModelServer) -> None:
    with ChatClient(chat.url()) as client:
        for number in range(8):
            client.ask(f"!say=answer{number} question {number}")
    prompts = [(record.prompt or "").split("\n") for record in model.requests()]
    assert [len(lines) for lines in prompts] == [2, 4, 6, 8, 10, 12, 14, 8], "six turns become three"
    assert all(prompt[0] == "Human: !say=answer0 question 0" for prompt in prompts[:7])
    assert "question 4" in prompts[7][0]


def test_every_socket_of_a_session_gets_every_reply(chat: Deployment, model: ModelServer) -> None:
    model.control(interval=30)
    with ChatClient(chat.url(0)) as one, ChatClient(chat.url(1), one.token) as other:
        one.receive()
        other.receive()
        reply = one.ask("do you both hear?")
        assert other.until("message", source="human")["msg"] == "do you both hear?"
        assert other.until("message", source="bot") == reply
        assert one.of_type("delta") == other.of_type("delta")
        assert [frame["source"] for frame in one.of_type("message")] == ["bot"]


def test_a_message_reaches_another_socket_before_the_models_first_word_and_can_be_stopped_there(
    chat: Deployment, model: ModelServer
) -> None:
    model.control(first=30_000)
    with ChatClient(chat.url(0)) as one, ChatClient(chat.url(1), one.token) as other:
        other.receive()
        one.send("think long", "m1")
        assert other.until("message", id="m1")["source"] == "human"
        other.send_frame(type="stop")
        assert one.until("message", reply_to="m1")["finish_reason"] == "stopped"


def test_a_client_goes_on_where_it_was(chat: Deployment, model: ModelServer) -> None:
    model.control(interval=10, tokens=20)
    with ChatClient(chat.url(0)) as client:
        first = client.ask("the first")
        # In progress until the client is back.
        model.control(hold=5)
        client.send("the second", "m2")
        client.until("delta", reply_to="m2")
        client.cut()
    with ChatClient(chat.url(1), client.token, after=first["id"]) as back:
        session = back.receive()
        assert (session["recovered"], session["pending"]) == (True, ["m2"])
        human = back.receive()
        assert (human["type"], human["source"], human["id"]) == ("message", "human", "m2")
        partial = back.receive()
        assert (partial["type"], partial["offset"], partial["reply_to"]) == ("delta", 0, "m2")
        model.control(hold=None)
        reply = back.until("message", source="bot")
        for delta in back.of_type("delta"):
            assert reply["msg"][delta["offset"] :].startswith(delta["msg"])
        offsets = [delta["offset"] for delta in back.of_type("delta")]
        assert offsets == sorted(set(offsets))


def test_a_client_with_an_unknown_last_message_learns_that_it_is_not_recovered(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        client.ask("something")
        with ChatClient(chat.url(), client.token, after="never-heard-of") as back:
            assert back.receive()["recovered"] is False


def test_a_reply_does_not_depend_on_the_socket_that_asked(chat: Deployment, model: ModelServer) -> None:
    model.control(first=300)
    with ChatClient(chat.url()) as client:
        client.send("and gone", "m1")
        client.until("ack")
    eventually(lambda: texts(history(chat.url(), client.token), "bot"), what="the reply is kept")


def test_stop_ends_the_model_call_and_keeps_what_was_said(chat: Deployment, model: ModelServer) -> None:
    model.control(tokens=200, hold=100)
    with ChatClient(chat.url(0)) as client:
        client.send("talk on and on", "m1")
        client.until("delta")
        with ChatClient(chat.url(1), client.token) as other:
            # Through another web process, and the worker is another process again.
            other.receive()
            other.send_frame(type="stop")
            reply = client.until("message")
        assert reply["finish_reason"] == "stopped"
        assert reply["msg"].startswith("You said:")
        records = model.wait_until(lambda found: found[-1].outcome == "closed_by_client")
        assert records[-1].tokens <= 100
        model.control(hold=None, tokens=6)
        assert client.ask("and now?")["msg"].startswith("You said: and now?")
        assert texts(history(chat.url(), client.token), "bot")[0] == reply["msg"]


def test_stop_before_the_first_token_gives_an_empty_reply(chat: Deployment, model: ModelServer) -> None:
    model.control(first=30_000)
    with ChatClient(chat.url()) as client:
        client.send("think long", "m1")
        client.until("ack")
        model.wait_until(lambda found: len(found) == 1)
        client.send_frame(type="stop")
        reply = client.until("message")
        assert (reply["msg"], reply["finish_reason"]) == ("", "stopped")


def test_a_stop_sequence_shows_in_no_delta(chat: Deployment, model: ModelServer) -> None:
    model.control(hold=2)
    with ChatClient(chat.url()) as client:
        client.send("!say=I am the bot.\\nHuman: and I am you")
        client.until("delta")
        model.control(hold=5)
        reply = client.until("message")
        assert reply["msg"] == "I am the bot."
        deltas = client.of_type("delta")
        assert len(deltas) > 1
        assert "".join(delta["msg"] for delta in deltas) == "I am the bot."


def test_a_failure_that_passes_is_reported_and_then_forgotten(chat: Deployment, model: ModelServer) -> None:
    with ChatClient(chat.url()) as client:
        client.send("!fault=server_error*1 please", "m1")
        status = client.until("status")
        assert (status["id"], status["state"]) == ("m1", "retrying")
        assert status["retry_in"] > 0
        assert client.until("message")["reply_to"] == "m1"


def test_a_model_being_loaded_is_reported(chat: Deployment, model: ModelServer) -> None:
    with ChatClient(chat.url()) as client:
        client.send("!fault=loading*1 wake up", "m1")
        status = client.until("status")
        assert (status["state"], status["retry_in"]) == ("loading", 0.5)
        assert client.until("message")["reply_to"] == "m1"


def test_a_failure_for_good_is_reported_and_can_be_retried(chat: Deployment, model: ModelServer) -> None:
    model.fault("unauthorized")
    with ChatClient(chat.url()) as client:
        client.send("answer me", "m1")
        error = client.until("error")
        assert (error["code"], error["id"]) == ("model_error", "m1")
        assert "token" not in error["message"].lower()
        model.fault(None)
        assert client.ask("meanwhile", "m2")["reply_to"] == "m2"
        with ChatClient(chat.url(1), client.token, after="m2") as back:
            # A client that connects later gets it as well.
            assert back.until("error")["id"] == "m1"
        client.send_frame(type="retry", id="m1")
        assert client.until("ack")["id"] == "m1"
        assert client.until("message")["reply_to"] == "m1"


def test_a_failing_message_does_not_hold_up_the_next_for_good(chat: Deployment, model: ModelServer) -> None:
    with ChatClient(chat.url()) as client:
        client.send("!fault=bad_request no", "m1")
        client.send("yes", "m2")
        assert client.until("error")["id"] == "m1"
        assert client.until("message")["reply_to"] == "m2"


def test_a_model_that_refuses_connections_is_a_recorded_failure_and_nothing_dies() -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    # A server that is starting refuses connections as well.
    with Deployment(url, model_attempts=2, model_loading_timeout=1) as chat, ChatClient(chat.url()) as client:
        client.send("is there anybody?", "m1")
        assert client.until("status")["state"] == "loading"
        assert client.until("error")["code"] == "model_error"
        assert all(process.running for process in chat.processes)
        eventually(lambda: "Connection refused" in chat.workers[0].log, what="the worker says why")
        assert "is there anybody?" not in chat.workers[0].log


def test_the_tutorials_env_works_against_a_redis_that_asks_for_user_and_password(model: ModelServer) -> None:
    users = ("--user", "ada", "on", ">p@ss/w:rd", "~*", "&*", "+@all", "--user", "default", "off")
    deployment = Deployment(model.url, redis_args=users)
    deployment.redis_url = f"redis://ada:p%40ss%2Fw%3Ard@127.0.0.1:{deployment.redis_port}/0"
    for process in deployment.processes:
        process.env.update(
            REDIS_URL="",
            REDIS_HOST="127.0.0.1",
            REDIS_PORT=str(deployment.redis_port),
            REDIS_USER="ada",
            REDIS_PASSWORD="p@ss/w:rd",
            HUGGINFACE_INFERENCE_TOKEN="hf_tutorial-token",
        )
    with deployment as chat, ChatClient(chat.url()) as client:
        client.ask("hello")
        assert model.requests()[-1].headers["authorization"] == "Bearer hf_tutorial-token"
        for process in chat.processes:
            assert "p@ss" not in process.log
            assert "p%40ss" not in process.log
            assert "hf_tutorial-token" not in process.log


def test_flower_lists_the_worker_and_its_replies(chat: Deployment) -> None:
    port = free_port()
    flower = Process(
        "flower",
        [str(BIN / "celery"), "-A", "celery_worker", "flower"],
        {**chat.env, "FLOWER_PORT": str(port), "FLOWER_UNAUTHENTICATED_API": "true"},
        chat.folder / "flower.log",
    ).start()
    address = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _answers(address + "/healthcheck"), 60, "Flower answers")

        def succeeded() -> bool:
            with ChatClient(chat.url()) as client:
                client.ask("are you seen?")
            tasks = requests.get(address + "/api/tasks", timeout=30).json().values()
            return any(t["name"] == "chatbot.generate_reply" and t["state"] == "SUCCESS" and t["worker"] for t in tasks)

        eventually(succeeded, what="Flower lists a succeeded generate_reply")
        tasks = requests.get(address + "/api/tasks", timeout=30).text
        assert "chatbot.sweep" not in tasks
        assert "are you seen?" not in tasks
    finally:
        flower.kill()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=30).status_code == 200
    except requests.RequestException:
        return False
