"""Why a finished or waiting event runs again: a person's request, or a cause that was fixed."""
