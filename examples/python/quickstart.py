"""A conversation that is kept in the directory `data`. Needs no key: the demo provider answers."""

from neuro_tutor import Tutor


def main() -> None:
    with Tutor.open("data") as tutor:
        stream = tutor.stream("What is photosynthesis?")
        for event in stream:
            if event.type == "text.delta":
                print(event.text, end="", flush=True)
        print()

        reply = tutor.chat("And in one sentence?", session=stream.session_id)
        print(reply.text)

        for session in tutor.sessions():
            print(session.title, session.message_count)


if __name__ == "__main__":
    main()
