"""`python -m chatbot`: the command `chatbot`."""

from chatbot.entry.commands import main

if __name__ == "__main__":
    main()
