"""When requests come and how long they are. Never sees a request."""
