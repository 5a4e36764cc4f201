"""Why a finished or waiting event runs again: a cause that was fixed, or a Sender that came late."""
