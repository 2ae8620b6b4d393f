"""Forecasts of regular series by an autoregressive LSTM (DeepAR, Salinas 2017, arXiv:1704.04110)."""
