"""The API's health check: asks the server itself, which asks the database and the cache."""

import sys
import urllib.request

try:
    with urllib.request.urlopen("http://127.0.0.1:8000/health", timeout=2) as answer:
        sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(f"{error}")
