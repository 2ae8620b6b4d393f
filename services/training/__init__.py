"""The pipeline: collect, preprocess, train, evaluate, publish. Generic: what is special to a model is its `Recipe`."""
