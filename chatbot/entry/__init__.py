"""The entry points of all processes, for the command `chatbot` and for the files of the project's folder."""
