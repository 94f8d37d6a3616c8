"""A provider of one's own: any object with a name and a generator `stream(request)`."""

from collections.abc import Iterator

from neuro_tutor import CompletionRequest, Delta, RateLimitedError, Tutor, TutorError, Usage


class Socrates:
    """Answers every question by a question."""

    name = "socrates"

    def stream(self, request: CompletionRequest) -> Iterator[Delta]:
        if "now" in request.text:
            raise RateLimitedError("thinking takes time", retry_after=60)
        words = f"Why do you ask: {request.text}".split(" ")
        for word in words:
            yield word + " "
        yield Usage(input_tokens=len(request.messages), output_tokens=len(words))


def main() -> None:
    with Tutor.open("memory:", providers=[Socrates(), "demo"]) as tutor:
        reply = tutor.chat("What is justice?")
        print(reply.text, reply.usage)
        try:
            tutor.chat("Tell me now!")
        except TutorError as error:
            print(error.code, error.retry_after)
        print(tutor.chat("Who are you?", model="demo/demo").text)


if __name__ == "__main__":
    main()
