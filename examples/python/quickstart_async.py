"""Two learners at the same time, under asyncio."""

import asyncio

from neuro_tutor import AsyncTutor


async def learn(tutor: AsyncTutor, learner: str, question: str) -> None:
    mine = tutor.for_owner(learner)
    words = 0
    async for event in mine.stream(question):
        if event.type == "text.delta":
            words += 1
        elif event.type == "turn.finished":
            print(f"{learner}: {words} words, in {len(await mine.sessions())} conversation")


async def main() -> None:
    async with AsyncTutor.open("memory:") as tutor:
        await asyncio.gather(
            learn(tutor, "ada", "What is photosynthesis?"),
            learn(tutor, "emil", "What is a prime number?"),
        )


if __name__ == "__main__":
    asyncio.run(main())
