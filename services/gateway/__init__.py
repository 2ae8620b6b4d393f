"""HTTP: routes, server-sent events, keys, routing. Holds no tensor; of this tree it imports `shared` alone."""
